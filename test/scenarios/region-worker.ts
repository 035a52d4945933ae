// The Worker of region-handles.ts: does one thing at a time with the region it attached.

import { parentPort } from 'node:worker_threads';
import {
  DirtyTracker,
  Region,
  Userfaultfd,
  type AllocateOptions,
  type RegionHandle,
} from '../../lib/index.js';

export type Order =
  | { do: 'attach'; handle: RegionHandle }
  | { do: 'allocate'; options: AllocateOptions }
  | { do: 'read'; at: number }
  | { do: 'write'; at: number; byte: number }
  | { do: 'discard'; offset: number; length: number }
  | { do: 'track' }
  | { do: 'register'; mode: 'missing' | 'write-protect'; fill: [page: number, byte: number] }
  | { do: 'count'; buffer: SharedArrayBuffer; times: number }
  | { do: 'wait'; buffer: SharedArrayBuffer; index: number }
  | { do: 'close' };

let region: Region;
const held: unknown[] = [];

function carryOut(order: Order): unknown {
  switch (order.do) {
    case 'attach':
      region = Region.attach(order.handle);
      return {
        byteLength: region.byteLength,
        pageSize: region.pageSize,
        backing: region.backing,
        sharedBuffer: region.buffer instanceof SharedArrayBuffer,
      };
    case 'allocate':
      region = Region.allocate(order.options);
      return region.handle;
    case 'read':
      return region.bytes[order.at];
    case 'write':
      region.bytes[order.at] = order.byte;
      return undefined;
    case 'discard':
      region.discard(order.offset, order.length);
      return undefined;
    case 'track':
      held.push(new DirtyTracker(region));
      return undefined;
    case 'register': {
      const uffd = Userfaultfd.open();
      held.push(uffd);
      uffd.register(region, order.mode);
      const [page, byte] = order.fill;
      uffd.copy(region, page * region.pageSize, new Uint8Array(region.pageSize).fill(byte));
      return undefined;
    }
    case 'count':
      for (let i = 0; i < order.times; i++) Atomics.add(new Int32Array(order.buffer), 0, 1);
      return undefined;
    case 'wait':
      return Atomics.wait(new Int32Array(order.buffer), order.index, 0);
    case 'close':
      region.close();
      return undefined;
  }
}

parentPort?.on('message', (order: Order) => {
  try {
    parentPort!.postMessage({ result: carryOut(order) });
  } catch (error) {
    parentPort!.postMessage({ error });
  }
});
