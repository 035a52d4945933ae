// Answers each message through shared memory, without a message back.

import { parentPort, workerData } from 'node:worker_threads';

export interface AnswerData {
  /** Counts the answers. */
  answers: Int32Array;
}

const { answers } = workerData as AnswerData;
parentPort!.on('message', () => {
  Atomics.add(answers, 0, 1);
  Atomics.notify(answers, 0);
});
parentPort!.postMessage('ready');
