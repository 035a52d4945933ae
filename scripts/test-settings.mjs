// Runs the tests where the whole process shares one malloc arena, and where libuv has one pool thread:
// the two settings in which a resolver that allocates, or that needs the pool, waits for itself.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const SETTINGS = { MALLOC_ARENA_MAX: '1', UV_THREADPOOL_SIZE: '1' };

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const tests = [path.join('scripts', 'run-tests.mjs'), ...process.argv.slice(2)];

const results = Object.entries(SETTINGS).map(([name, value]) => {
  console.log(`\n=== ${name}=${value} ===`);
  const env = { ...process.env, [name]: value };
  const { status } = spawnSync(process.execPath, tests, { cwd: root, env, stdio: 'inherit' });
  return { setting: `${name}=${value}`, status: status ?? 1 };
});

console.log('');
for (const { setting, status } of results) {
  console.log(`${setting.padEnd(22)} ${status === 0 ? 'passed' : `FAILED (exit code ${status})`}`);
}
process.exit(results.every(({ status }) => status === 0) ? 0 : 1);
