// Work is counted, not time: system calls and allocations of an operation do not grow with what it is about.

import { test } from 'node:test';
import { passScenario } from './support/scenario.js';

test('it collects with one ioctl and a few allocations, however many pages were written', async () => {
  await passScenario('work', 'collect');
});

test('it takes another ioctl only for what does not fit into the result of one', async () => {
  await passScenario('work', 'collectManyRanges');
});

test('it makes no JavaScript object for a page that was collected', async () => {
  await passScenario('work', 'heapOfCollect', { nodeArgs: ['--expose-gc'] });
});

test('it starts and ends a tracker with the ioctls that it takes, and no others', async () => {
  await passScenario('work', 'trackers');
});

test('it restores with two ioctls, however many pages were written', async () => {
  await passScenario('work', 'snapshots');
});

test('it ends a fault natively with one ioctl, without an allocation or a word to JavaScript', async () => {
  await passScenario('work', 'nativeFaults');
});

test('it hands over a batch of events without a system call for each', async () => {
  await passScenario('work', 'events');
});
