// Makes ../vscode/client.js of extension.js and its libraries, and ../vscode/client-licenses.txt of their licences.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const source = readFileSync("extension.js");
const digest = createHash("sha256").update(source).digest("hex");
const { metafile } = await build({
  entryPoints: ["extension.js"],
  bundle: true,
  minify: true,
  platform: "node",
  target: "node18",
  external: ["vscode"],
  metafile: true,
  legalComments: "none",
  outfile: "../vscode/client.js",
  // How a test knows that this file is made of that source.
  banner: { js: `// extension.js sha256 ${digest}; licences of its libraries: client-licenses.txt` },
});

const inputs = Object.keys(metafile.inputs);
const names = inputs.map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]);
const parts = [...new Set(names.filter(Boolean))].sort().map((name) => {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} has no licence file`);
  const text = readFileSync(`${folder}/${file}`, "utf8").replace(/\r\n/g, "\n").trim();
  return `${name} ${version} (${license})\n\n${text}\n`;
});
writeFileSync("../vscode/client-licenses.txt", parts.join(`\n${"-".repeat(80)}\n\n`));
