// Formatters and linters for both languages. `--fix-cpp` formats the C++ sources and stops.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const native = readdirSync(path.join(root, 'native'), { recursive: true })
  .filter((name) => /\.(cc|h)$/.test(name))
  .map((name) => path.join('native', name));
// The C programs of the benchmark.
const formatted = [
  ...native,
  ...readdirSync(path.join(root, 'bench', 'native')).map((name) => path.join('bench', 'native', name)),
];
const sources = native.filter((name) => name.endsWith('.cc'));
const nodeHeaders = path.join(path.dirname(process.execPath), '..', 'include', 'node');
const napiHeaders = path.dirname(createRequire(import.meta.url).resolve('node-addon-api/napi.h'));

// The versions differ in what they format and report, so one is named.
const LLVM = 14;
const steps = process.argv.includes('--fix-cpp')
  ? [[`clang-format-${LLVM}`, ['-i', ...formatted]]]
  : [
      ['npx', ['prettier', '--check', '.']],
      ['npx', ['eslint', '--max-warnings=0', '.']],
      [`clang-format-${LLVM}`, ['--dry-run', '--Werror', ...formatted]],
      [
        `clang-tidy-${LLVM}`,
        [
          '--quiet',
          ...sources,
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
        ],
      ],
    ];

let failed = false;
for (const [command, args] of steps) {
  console.log(`> ${command} ${args.filter((arg) => !formatted.includes(arg)).join(' ')}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error)
    console.error(
      `${command} cannot be run (${error.code}); Debian: apt-get install clang-format-${LLVM} clang-tidy-${LLVM}`,
    );
  failed ||= status !== 0;
}
process.exit(failed ? 1 : 0);
