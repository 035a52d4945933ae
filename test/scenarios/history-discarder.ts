// Discards a memory while another thread, which takes an entry of it, waits for its second thread.

import { parentPort, workerData } from 'node:worker_threads';
import { Region, type RegionHandle } from '../../lib/index.js';
import { testing, untilAsleepInFutex, untilSomebodyWaitsAt } from '../support/testing.js';

const region = Region.attach(workerData as RegionHandle);
parentPort!.postMessage('ready');
untilSomebodyWaitsAt('copy helper has pages');
untilSomebodyWaitsAt('copies handed over');
testing().openBarrier('copies handed over');
while (testing().waitingAt('copies handed over') > 0);
untilAsleepInFutex(process.pid);
region.discard();
testing().openBarrier('copy helper has pages');
