// A Worker that touches pages of shared memory when it is told to: the far end of Toucher in
// loop-support.ts. It loads no addon, so that it stands for any thread of a program.

import { isMainThread, workerData } from 'node:worker_threads';
import { kernelThreadId } from '../support/testing.js';
import { CONTROL, LAST_ROUND, type TouchOrder } from './loop-support.js';

function touchRounds({ bytes, offset, stride, count, access, value, control }: TouchOrder): void {
  Atomics.store(control, CONTROL.tid, kernelThreadId());
  Atomics.notify(control, CONTROL.tid);
  let finished = 0;
  for (;;) {
    Atomics.wait(control, CONTROL.round, finished);
    const round = Atomics.load(control, CONTROL.round);
    if (round === LAST_ROUND) return;
    for (let i = 0; i < count; i++) {
      const at = offset + i * stride;
      if (access === 'write') bytes[at] = value;
      else Atomics.store(control, CONTROL.lastRead, bytes[at]!);
      Atomics.add(control, CONTROL.touched, 1);
    }
    finished = round;
    Atomics.store(control, CONTROL.finishedRound, finished);
    Atomics.notify(control, CONTROL.finishedRound);
  }
}

if (!isMainThread) touchRounds(workerData as TouchOrder);
