// A Worker that makes calls on a userfaultfd of its own, or opens barriers for a main thread that waits.

import { spawnSync } from 'node:child_process';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Region, Userfaultfd, type UffdError } from '../../lib/index.js';
import { testing, untilSomebodyWaitsAt } from '../support/testing.js';
import { type CallerOrder, FORKS, until } from './loop-support.js';

function failureOf(call: () => unknown): string {
  try {
    call();
    return 'no error';
  } catch (error) {
    return (error as UffdError).code;
  }
}

/** Opens a userfaultfd, then makes a call that a barrier holds. */
function callLate({ control, call = 'writeProtect' }: CallerOrder): void {
  const region = Region.allocate({ bytes: 1 });
  const uffd = Userfaultfd.open();
  const registration = uffd.register(region, ['missing', 'write-protect']);
  const other = Region.allocate({ bytes: 1 });
  const calls: Record<NonNullable<CallerOrder['call']>, () => unknown> = {
    writeProtect: () => uffd.writeProtect(region),
    unprotect: () => uffd.unprotect(region),
    wake: () => uffd.wake(region),
    copy: () => uffd.copy(region, 0, new Uint8Array(region.pageSize)),
    zeropage: () => uffd.zeropage(region),
    register: () => uffd.register(other, 'missing'),
    armedPages: () => uffd.armedPages(region),
  };
  Atomics.store(control, 0, 1);
  Atomics.notify(control, 0);
  Atomics.wait(control, 1, 0);
  const code = failureOf(calls[call]);
  Atomics.store(control, 2, 1);
  registration.close();
  uffd.close();
  parentPort!.postMessage(code);
}

/** Lets the held call go while the main thread releases everything. */
function letGo({ control }: CallerOrder): void {
  untilSomebodyWaitsAt('release-after-wake');
  testing().openBarrier('call-before-check');
  until(() => Atomics.load(control, 2) === 1);
  testing().openBarrier('release-after-wake');
}

function fork({ control }: CallerOrder): void {
  for (let i = 1; i <= FORKS; i++) {
    const { status } = spawnSync('/bin/true');
    if (status !== 0) throw new Error(`a child ended with ${status}`);
    Atomics.store(control, 1, i);
  }
}

if (!isMainThread) {
  const order = workerData as CallerOrder;
  if (order.role === 'caller') callLate(order);
  if (order.role === 'opener') letGo(order);
  if (order.role === 'forker') fork(order);
}
