// A Worker with a thread of libuv's pool asleep in memory that its own handler serves, and answers
// nothing.

import { randomFill } from 'node:crypto';
import { isMainThread, parentPort } from 'node:worker_threads';
import { Region, Userfaultfd } from '../../lib/index.js';

const held: unknown[] = [];

function own(): void {
  const region = Region.allocate({ bytes: 1 });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 2 ** 31 - 1 });
  const events = uffd.events();
  held.push(uffd, events);
  void events.next().then((fault) => {
    held.push(fault);
    parentPort!.postMessage('read');
  });
  randomFill(region.bytes, () => process.exit(99));
  parentPort!.on('message', () => process.exit(0));
}

if (!isMainThread) own();
