// Starts `sohu lsp` for .sohu texts. Without it, or with `sohu.server.enabled` off, the colours remain.
"use strict";

const vscode = require("vscode");
const { LanguageClient, TransportKind } = require("vscode-languageclient/node");

const HELP = "Install it with `pip install 'sohu[lsp]'`, or say where it is in the setting sohu.server.path.";
let client;

async function start() {
  const settings = vscode.workspace.getConfiguration("sohu.server");
  if (!settings.get("enabled")) return;
  const command = settings.get("path") || "sohu";
  const server = { command, args: ["lsp"], transport: TransportKind.stdio };
  client = new LanguageClient("sohu", "Sohu", server, {
    documentSelector: [{ language: "sohu" }],
  });
  try {
    await client.start();
  } catch (error) {
    vscode.window.showWarningMessage(`Cannot start ${command} lsp: ${error.message || error}. ${HELP}`);
  }
}

async function stop() {
  const running = client;
  client = undefined;
  // A client that never started cannot be stopped.
  if (running) await running.stop().catch(() => undefined);
}

async function restart() {
  await stop();
  await start();
}

async function activate(context) {
  context.subscriptions.push(
    vscode.commands.registerCommand("sohu.server.restart", restart),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("sohu.server")) return restart();
    }),
  );
  await start();
}

module.exports = { activate, deactivate: stop };
