// A Worker whose event loop ends the missing faults of another thread.

import { open } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { Region, Userfaultfd, type RegionHandle } from '../../lib/index.js';

/** `file`: where each page is read from, asynchronously; without it a page of memory is taken. */
export interface ServeFaultsData {
  handle: RegionHandle;
  file: string | undefined;
}

async function main(): Promise<void> {
  const { handle, file } = workerData as ServeFaultsData;
  const region = Region.attach(handle);
  using uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 5000, fallback: 'poison' });
  const page = new Uint8Array(region.pageSize).fill(1);
  const source = file === undefined ? undefined : await open(file);
  const events = uffd.events();
  parentPort!.postMessage('ready');
  for await (const event of events) {
    if (event.type !== 'pagefault') continue;
    await source?.read(page, 0, page.length, event.pageOffset);
    await event.resolve(page);
  }
}

void main();
