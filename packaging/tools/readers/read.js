// Prints the lines of objects as Node's zlib decodes them: node read.js FILE...
const fs = require("fs");
const zlib = require("zlib");

fs.writeSync(1, process.versions.node + "\n");
for (const file of process.argv.slice(2)) {
  const lines = zlib.zstdDecompressSync(fs.readFileSync(file));
  for (let at = 0; at < lines.length; ) at += fs.writeSync(1, lines, at);
}
