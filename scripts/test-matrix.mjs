// Runs the tests of this one build on the real binaries of each supported Node.js. `--others` leaves out
// the one that runs this, whose turn is `npm test`, and the tests of what no Node.js changes.
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ALL_VERSIONS = ['20.20.2', '22.23.3', '24.21.0', '26.10.0'];
/** Facts of the kernel, native threads and their races, random models, counted work and the benchmark. */
const NOT_OF_NODE = '30 32 35 36 37 38 39 41 46 47 53 57 58 61 63 64 68 90 91 92 93'.split(' ');
const others = process.argv.includes('--others');
const words = process.argv.slice(2).filter((word) => word !== '--others');
if (others) words.push(...NOT_OF_NODE.map((number) => `-${number}-`));
const current = others ? process.versions.node.split('.')[0] : undefined;
const VERSIONS = ALL_VERSIONS.filter((version) => version.split('.')[0] !== current);

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const cache = path.join(root, 'build', 'node-versions');
mkdirSync(cache, { recursive: true });

const run = (command, args, options = {}) => {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (error) throw error;
  return status ?? 1;
};

const names = VERSIONS.map((version) => `node-${version.split('.')[0]}`);
const packages = VERSIONS.map((version, i) => `${names[i]}@npm:node-linux-${process.arch}@${version}`);
if (
  run('npm', [
    'install',
    '--prefix',
    cache,
    '--no-save',
    '--no-package-lock',
    '--ignore-scripts',
    ...packages,
  ]) !== 0
) {
  console.error('The Node.js binaries could not be installed from the npm registry.');
  process.exit(1);
}

const results = names.map((name, i) => {
  const node = path.join(cache, 'node_modules', name, 'bin', 'node');
  console.log(`\n=== Node.js ${VERSIONS[i]} ===`);
  return run(node, [path.join('scripts', 'run-tests.mjs'), ...words]);
});

console.log('');
for (const [i, status] of results.entries()) {
  console.log(`Node.js ${VERSIONS[i].padEnd(8)} ${status === 0 ? 'passed' : `FAILED (exit code ${status})`}`);
}
process.exit(results.every((status) => status === 0) ? 0 : 1);
