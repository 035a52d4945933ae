// A Worker that sends signals to a main thread that sleeps in a fault, and lets its fault end after.

import { isMainThread, workerData } from 'node:worker_threads';
import { testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';

if (!isMainThread) {
  const { signals } = workerData as { signals: number };
  untilSomebodyWaitsAt('loop-before-resolve');
  for (let i = 0; i < signals; i++) {
    untilAsleepInFault(process.pid);
    process.kill(process.pid, 'SIGUSR2');
  }
  untilAsleepInFault(process.pid);
  testing().openBarrier('loop-before-resolve');
}
