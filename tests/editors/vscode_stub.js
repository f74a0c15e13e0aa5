// A stand-in for VS Code, as far as starting a client needs one: what is registered is printed.
// `node vscode_stub.js CLIENT.js SOHU` activates the extension, waits for it, and ends it.
"use strict";

const Module = require("module");

const disposable = { dispose() {} };
const settings = { enabled: true, path: process.argv[3] };
const warn = (text) => console.log("warned", text);
const collection = { set() {}, clear() {}, delete() {}, dispose() {} };
const channel = { append() {}, appendLine() {}, show() {}, dispose() {} };

// Whatever else is asked for is a thing that can be called, made, and asked for more.
const any = new Proxy(function () {}, {
  get: (_, key) =>
    key === "then" ? undefined : key === Symbol.iterator ? function* () {} : key === Symbol.toPrimitive ? () => "" : any,
  apply: () => any,
  construct: () => any,
});
const room = (known, rest) => new Proxy(known, { get: (own, key) => (key in own ? own[key] : rest(String(key))) });

class EventEmitter {
  event = () => disposable;
  fire() {}
  dispose() {}
}

class Disposable {
  static from = () => disposable;
  dispose() {}
}

const silent = () => () => disposable;
const vscode = room(
  {
    version: "1.90.0",
    EventEmitter,
    Disposable,
    workspace: room({ getConfiguration: () => ({ get: (key) => settings[key] }), textDocuments: [], notebookDocuments: [], workspaceFolders: undefined }, silent),
    window: room({ showWarningMessage: warn, showErrorMessage: warn, createOutputChannel: () => channel, visibleTextEditors: [], activeTextEditor: undefined, tabGroups: { all: [], onDidChangeTabs: () => disposable } }, silent),
    languages: room({ createDiagnosticCollection: () => collection, match: () => 10 }, (key) => () => (console.log(key), disposable)),
    commands: { registerCommand: (name) => (console.log("command", name), disposable), executeCommand: async () => undefined },
    env: { appName: "stub", language: "en", machineId: "stub" },
  },
  () => any,
);

const load = Module._load;
Module._load = (name, ...rest) => (name === "vscode" ? vscode : load(name, ...rest));
const extension = require(process.argv[2]);

(async () => {
  await extension.activate({ subscriptions: [] });
  await extension.deactivate();
  console.log("ended");
})();
