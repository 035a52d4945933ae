// Runs the compiled tests with the Node.js that runs this script. With UFFD_TEST_STRICT=1 a skipped
// test is a failure. Arguments select files by a part of their name, `-PART` leaves files out.
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const directory = path.join(root, 'dist', 'test');
const words = process.argv.slice(2);
const wanted = words.filter((word) => !word.startsWith('-'));
const unwanted = words.filter((word) => word.startsWith('-')).map((word) => word.slice(1));
const files = readdirSync(directory)
  .filter((name) => name.endsWith('.test.js'))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .filter((name) => !unwanted.some((part) => name.includes(part)))
  .sort()
  .map((name) => path.join(directory, name));
if (files.length === 0) {
  console.error(`No test file in ${directory} matches ${words.join(', ')}`);
  process.exit(1);
}

const child = spawn(process.execPath, ['--test', '--test-reporter=spec', ...files], {
  cwd: root,
  env: { ...process.env, UFFD_TEST_ADDON: '1' },
  stdio: ['ignore', 'pipe', 'inherit'],
});
let tail = '';
child.stdout.on('data', (chunk) => {
  process.stdout.write(chunk);
  tail = (tail + chunk).slice(-20_000);
});
child.on('close', (code) => {
  const skipped = Number(/^\S* ?skipped (\d+)/m.exec(tail)?.[1] ?? NaN);
  if (process.env.UFFD_TEST_STRICT === '1' && skipped !== 0) {
    console.error(`UFFD_TEST_STRICT=1: ${skipped} skipped tests count as failures.`);
    process.exit(1);
  }
  process.exit(code ?? 1);
});
