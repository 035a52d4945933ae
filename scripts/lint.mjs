// Formatters and linters for both languages. `--fix-cpp` formats the C++ sources and stops. `--analyze`
// adds clang's static analyzer, which takes longer than all the rest.
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const native = readdirSync(path.join(root, 'native'), { recursive: true })
  .filter((name) => /\.(cc|h)$/.test(name))
  .map((name) => path.join('native', name));
// The C programs of the benchmark are formatted like them.
const formatted = [
  ...native,
  ...readdirSync(path.join(root, 'bench', 'native')).map((name) => path.join('bench', 'native', name)),
];
const sources = native.filter((name) => name.endsWith('.cc'));
const nodeHeaders = path.join(path.dirname(process.execPath), '..', 'include', 'node');
const napiHeaders = path.dirname(createRequire(import.meta.url).resolve('node-addon-api/napi.h'));

// The versions differ in what they format and report, so one is named.
const LLVM = 14;
const TIDY = `clang-tidy-${LLVM}`;
const tidyFlags = [
  '--',
  '-xc++',
  '-std=gnu++20',
  '-DNAPI_VERSION=9',
  '-DNAPI_CPP_EXCEPTIONS',
  '-DNODE_GYP_MODULE_NAME=userfaultfd',
  '-DUFFD_TEST_BARRIERS',
  '-Inative',
  `-isystem${nodeHeaders}`,
  `-isystem${napiHeaders}`,
];

/** Whether it ended well. What it prints comes in one piece, so that several may run at a time. */
function run(command, args) {
  return new Promise((resolve) => {
    execFile(command, args, { cwd: root, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      process.stdout.write(stdout);
      // clang-tidy counts what it suppressed.
      process.stderr.write(stderr.replace(/^\d+ warnings? generated\.\n/gm, ''));
      if (error?.code === 'ENOENT')
        console.error(
          `${command} cannot be run; Debian: apt-get install clang-format-${LLVM} clang-tidy-${LLVM}`,
        );
      resolve(error === null);
    });
  });
}

const skipped = process.argv.includes('--analyze') ? [] : ['--checks=-clang-analyzer-*'];

/** One process per processor; each takes the next file. */
async function tidy() {
  const rest = [...sources];
  const worker = async () => {
    let clean = true;
    for (let file = rest.shift(); file !== undefined; file = rest.shift()) {
      clean = (await run(TIDY, ['--quiet', ...skipped, file, ...tidyFlags])) && clean;
    }
    return clean;
  };
  const results = await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return results.every(Boolean);
}

const steps = process.argv.includes('--fix-cpp')
  ? [[`clang-format-${LLVM}`, () => run(`clang-format-${LLVM}`, ['-i', ...formatted])]]
  : [
      ['prettier', () => run('npx', ['prettier', '--check', '.'])],
      ['eslint', () => run('npx', ['eslint', '--max-warnings=0', '.'])],
      [`clang-format-${LLVM}`, () => run(`clang-format-${LLVM}`, ['--dry-run', '--Werror', ...formatted])],
      [TIDY, tidy],
    ];

let failed = false;
for (const [name, step] of steps) {
  console.log(`> ${name}`);
  failed = !(await step()) || failed;
}
process.exit(failed ? 1 : 0);
