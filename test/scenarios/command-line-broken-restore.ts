// Loaded before the command: a restore that leaves one byte wrong, so that the checks have something to find.

import { Snapshot, type RestoreStats } from '../../lib/index.js';

const take = Snapshot.take.bind(Snapshot);
Snapshot.take = (memory, options) => {
  const snapshot = take(memory, options);
  const restore = snapshot.restore.bind(snapshot);
  snapshot.restore = (): RestoreStats => {
    const stats = restore();
    const bytes = new Uint8Array((memory as WebAssembly.Memory).buffer);
    bytes[1 << 20]! ^= 1;
    return stats;
  };
  return snapshot;
};
