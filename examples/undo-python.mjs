// A Python session in which every statement can be undone, whatever it did to the interpreter: its whole
// memory goes back, at the price of the pages that the statement wrote.   node examples/undo-python.mjs
import { loadPyodide } from 'pyodide';
import { SnapshotHistory } from 'userfaultfd';

const python = await loadPyodide();
const history = new SnapshotHistory(python._module.memory, { maxEntries: 100 });
history.take('start');

const run = (code) => {
  python.runPython(code);
  history.take(code);
};
const show = (code) => console.log(`${code} is ${python.runPython(`repr(${code})`)}`);

run('primes = [2, 3, 5, 7]');
run('primes.append(9)');
show('primes');
history.undo();
show('primes');
run('primes.append(11)');
run('del primes; import builtins; del builtins.print, builtins.repr');
const { pages, bytes } = history.undo();
console.log(
  `a broken interpreter is whole again: ${pages} pages, ${(bytes / 2 ** 20).toFixed(1)} MiB put back`,
);
show('primes');

for (const { id, label, addedBytes } of history.entries) {
  console.log(`entry ${id} took ${(addedBytes / 2 ** 20).toFixed(1)} MiB: ${label}`);
}
history.close();
