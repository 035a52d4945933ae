// Takes entries of memory of its own, each copied with a second thread, and compares them.

import assert from 'node:assert/strict';
import { Region, SnapshotHistory } from '../../lib/index.js';
import { PAGE } from './dirty-support.js';

const region = Region.allocate({ bytes: 2048 * PAGE });
const history = new SnapshotHistory(region, { maxEntries: 2 });
for (let i = 1; i <= 100; i++) {
  const written = region.bytes.subarray(0, 512 * PAGE).fill(i);
  const entry = history.take();
  assert.equal(Buffer.compare(history.read(entry, 0, written.length), written), 0);
}
