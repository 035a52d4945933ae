// The resolver `in-thread` lives by its SIGBUS handler, and process.on('SIGBUS') and process.off() install
// others: a write would fault for ever, or kill the process, until the background looks again. A touch of
// a poisoned page would fault for ever, too.

import { isMainThread } from 'node:worker_threads';
import { binding } from './binding.js';

let keeping = false;

/** @internal From now on it is put back at once; Workers cannot listen for signals. */
export function keepSigbusHandler(): void {
  if (keeping || !isMainThread) return;
  keeping = true;
  const putBack = (event: string | symbol): void => {
    if (event === 'SIGBUS') binding().Snapshot.reinstallSigbusHandler();
  };
  // Node.js has listened for both since it began, so its own handler is in place when these are called.
  process.on('newListener', putBack);
  process.on('removeListener', putBack);
}
