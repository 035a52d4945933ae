// Writes a page while another thread takes an entry, and has a tracker of its own collect it before that one looks.

import { parentPort, workerData } from 'node:worker_threads';
import { DirtyTracker, Region, type RegionHandle } from '../../lib/index.js';
import { testing, untilSomebodyWaitsAt } from '../support/testing.js';
import { pagesOf, touch } from './dirty-support.js';

const region = Region.attach(workerData as RegionHandle);
// So many that they are not told one by one.
const trackers = Array.from({ length: 20 }, () => new DirtyTracker(region));
parentPort!.postMessage('ready');
untilSomebodyWaitsAt('copied, even pass');
touch(region.bytes, 20, 7);
const seen = pagesOf(trackers[0]!.collect());
testing().openBarrier('copied, even pass');
parentPort!.postMessage(seen);
for (const tracker of trackers) tracker.close();
