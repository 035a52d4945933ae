// Builds the addon with node-gyp. `--test` also builds the one with barriers for the tests.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');

if (process.platform !== 'linux') {
  console.error(`userfaultfd: not built, this is ${process.platform} and the package is for Linux.`);
  process.exit(0);
}

const missing = [
  [process.env.CXX ?? 'g++', 'a C++20 compiler (g++ 10 or newer)'],
  [process.env.MAKE ?? 'make', 'make'],
  [process.env.PYTHON ?? process.env.npm_config_python ?? 'python3', 'python3'],
].filter(([command]) => spawnSync(command, ['--version'], { stdio: 'ignore' }).error !== undefined);
if (missing.length > 0) {
  console.error(`userfaultfd: cannot build the native addon; missing: ${missing.map(([, what]) => what).join(', ')}.
  Debian and Ubuntu:  apt-get install g++ make python3
  Fedora:             dnf install gcc-c++ make python3
  Alpine:             apk add g++ make python3 linux-headers`);
  process.exit(1);
}

// Headers that came with this Node.js spare node-gyp the download.
const prefix = path.join(path.dirname(process.execPath), '..');
const headers = existsSync(path.join(prefix, 'include', 'node', 'node_api.h')) ? [`--nodedir=${prefix}`] : [];

const test = process.argv.includes('--test');
const gyp = (...args) => {
  const local = path.join(root, 'node_modules', '.bin', 'node-gyp');
  const command = existsSync(local) ? local : 'node-gyp';
  const { status, error } = spawnSync(command, [args[0], '--loglevel=warn', ...headers, ...args.slice(1)], {
    cwd: root,
    stdio: 'inherit',
  });
  if (error) console.error(`userfaultfd: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
};

gyp('configure', ...(test ? ['--', '-Duffd_test=1'] : []));
gyp('build', '--jobs=max');
