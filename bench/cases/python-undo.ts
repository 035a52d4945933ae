// Undoing what a statement of Python did to its memory (Pyodide, WebAssembly).

import { DirtyTracker, Snapshot } from '../../lib/index.js';
import { Python } from '../../lib/demo/python.js';
import { timed, type BenchCase } from '../harness/bench.js';
import { MIB } from '../harness/pattern.js';

const benchCase: BenchCase = {
  title: 'Undo of x = 2 in a Python interpreter in WebAssembly',
  deadlineSeconds: 300,
  needsBytes: 512 * MIB,

  async run(bench) {
    const python = await Python.load();
    python.evaluate('x = 1');
    const copy = Buffer.from(new Uint8Array(python.memory.buffer));
    using snapshot = Snapshot.take(python.memory, { mode: 'copy' });
    using tracker = new DirtyTracker(python.memory);
    let pages = 0;
    await bench.row({
      name: `of ${(copy.length / MIB).toFixed(0)} MiB`,
      rounds: 40,
      sides: {
        'restore()': () => {
          tracker.collect();
          python.evaluate('x = 2');
          pages = tracker.collect().pageCount;
          const time = timed(() => snapshot.restore());
          if (python.evaluate('x') !== 1) throw new Error('x is not what it was');
          snapshot.restore();
          return time;
        },
        'copy the heap back': () => {
          python.evaluate('x = 2');
          const time = timed(() => new Uint8Array(python.memory.buffer).set(copy));
          if (python.evaluate('x') !== 1) throw new Error('x is not what it was');
          snapshot.restore();
          return time;
        },
      },
      targets: [{ ratio: ['copy the heap back', 'restore()'], atLeast: 5 }],
      notes: () => [`${pages} pages were written`],
    });
  },
};

export default benchCase;
