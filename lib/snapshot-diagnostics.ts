// What becomes of snapshots, for whoever watches the program (node:diagnostics_channel).

import { channel } from 'node:diagnostics_channel';
import type { Snapshot } from './snapshot.js';

/** `{ snapshot }`, and `{ snapshot, error }` on the last. */
const CHANNELS = {
  taken: channel('userfaultfd:snapshot:taken'),
  ready: channel('userfaultfd:snapshot:ready'),
  failed: channel('userfaultfd:snapshot:failed'),
};

/** @internal */
export function publishSnapshot(what: keyof typeof CHANNELS, snapshot: Snapshot, error?: Error): void {
  CHANNELS[what].publish(error === undefined ? { snapshot } : { snapshot, error });
}
