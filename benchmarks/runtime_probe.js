// What an onnxruntime-node package loads of the probes of runtime_tables.py: for releases of onnxruntime without a wheel.
//
//     node runtime_probe.js FOLDER PROBES > 1.12.json
//
// FOLDER holds node_modules/onnxruntime-node and node_modules/onnxruntime-common, unpacked. The probes are loaded in a child
// process, since some of them abort old releases: that one counts as not loaded, and a new child goes on behind it.
const { spawnSync } = require("child_process");
const fs = require("fs");
const path = require("path");

const LACKS = ["Could not find an implementation", "not implemented"];

async function load(root, files) {
  const ort = require(root);
  for (const file of files) {
    let told = "yes";
    try {
      await ort.InferenceSession.create(file, { logSeverityLevel: 4, intraOpNumThreads: 1 });
    } catch (error) {
      told = LACKS.some((words) => String(error).includes(words)) ? "lacks" : "no";
    }
    fs.writeSync(1, told + "\n");
  }
  process.exit(0);
}

function main(folder, probes) {
  const root = path.resolve(folder, "node_modules", "onnxruntime-node");
  const names = fs.readdirSync(probes).filter((name) => name.endsWith(".onnx")).sort();
  const told = [];
  while (told.length < names.length) {
    const rest = names.slice(told.length).map((name) => path.join(probes, name));
    const child = spawnSync(process.execPath, [__filename, "--child", root], { input: rest.join("\n"), maxBuffer: 1 << 28 });
    told.push(...child.stdout.toString().split("\n").filter(Boolean));
    if (told.length < names.length) told.push("no");
  }
  const exact = JSON.parse(fs.readFileSync(path.join(root, "package.json"))).version;
  const loads = Object.fromEntries(names.map((name, index) => [name.slice(0, -5), told[index]]));
  process.stdout.write(JSON.stringify({ exact, kernels: null, loads }));
}

if (process.argv[2] === "--child") load(process.argv[3], fs.readFileSync(0, "utf8").split("\n"));
else main(process.argv[2], process.argv[3]);
