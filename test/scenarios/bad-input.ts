// After all the mistakes, everything goes on as if nothing had been said.

import assert from 'node:assert/strict';
import { Region, Userfaultfd } from '../../lib/index.js';
import { ARMED, CASES, makeFixture } from './bad-input-cases.js';

export function losesNothing(): void {
  const f = makeFixture();
  const { pageSize } = f.region;
  for (let round = 0; round < 20; round++) {
    for (const { call } of Object.values(CASES).flat()) {
      try {
        call(f);
      } catch {
        continue;
      }
    }
  }

  f.uffd.writeProtect(f.region, { offset: 0, length: ARMED * pageSize });
  f.region.bytes.fill(1);
  f.missingOnly.bytes.fill(2);
  f.grown.bytes.fill(3);
  f.unregistered.bytes.fill(4);
  assert.ok(f.region.bytes.every((byte) => byte === 1));
  assert.ok(f.missingOnly.bytes.every((byte) => byte === 2));
  assert.ok(f.grown.bytes.every((byte) => byte === 3));
  assert.ok(f.unregistered.bytes.every((byte) => byte === 4));
  assert.equal(f.uffd.armedPages(f.region), 0);

  assert.deepEqual([...f.tracker.collect()], [{ offset: pageSize, length: pageSize }]);
  assert.equal(f.snapshot.restore().pages, 1);
  assert.equal(f.tracked.bytes[pageSize], 0);

  // What was refused all the time is free for the taking.
  using other = Userfaultfd.open();
  other.register(f.unregistered, 'write-protect');
  other.writeProtect(f.unregistered);
  assert.equal(other.armedPages(f.unregistered), 4);
  f.uffd.close();
  f.tracker.close();
  f.snapshot.close();
  other.register(f.region, 'write-protect');
  other.register(f.tracked, 'write-protect');
}

/** The source lies in memory whose faults this descriptor serves (D6). */
export function copiesFromItself(userModeOnly: string): void {
  const pageSize = Region.allocate({ bytes: 1 }).pageSize;
  const uffd = Userfaultfd.open({ userModeOnly: userModeOnly === 'true' });
  const region = Region.allocate({ bytes: 8 * pageSize });
  uffd.register(region, ['missing', 'write-protect']);
  const page = (index: number): Uint8Array => region.bytes.subarray(index * pageSize, (index + 1) * pageSize);

  // From a page that is missing itself: served where kernel faults are, else refused.
  let code: string | undefined;
  try {
    assert.equal(uffd.copy(region, 0, page(1)), pageSize);
    assert.ok(page(0).every((byte) => byte === 0));
  } catch (error) {
    code = (error as NodeJS.ErrnoException).code;
  }
  assert.equal(code, userModeOnly === 'true' ? 'EFAULT' : undefined);

  // Onto itself: reading it makes it exist.
  assert.throws(() => uffd.copy(region, 2 * pageSize, page(2)), {
    name: 'UffdError',
    code: userModeOnly === 'true' ? 'EFAULT' : 'EEXIST',
  });

  // From a page that exists, armed or not, all is well.
  page(3).fill(7);
  uffd.writeProtect(region, { offset: 3 * pageSize, length: pageSize });
  assert.equal(uffd.copy(region, 4 * pageSize, page(3)), pageSize);
  assert.ok(page(4).every((byte) => byte === 7));
  assert.equal(uffd.armedPages(region), 1);
  uffd.close();
}

/** A size that V8 takes and the kernel does not, or the other way round. */
export function allocatesTheImpossible(): void {
  const codes = [42, 43, 44, 45, 46, 47, 48, 52].map((power) => {
    try {
      Region.allocate({ bytes: 2 ** power }).close();
      return 'works';
    } catch (error) {
      return (error as NodeJS.ErrnoException).code;
    }
  });
  assert.ok(
    codes.every((code) => code === 'works' || code === 'ENOMEM' || code === 'ERR_OUT_OF_RANGE'),
    codes.join(),
  );
  assert.notEqual(codes.at(-1), 'works');
  // And small ones go on working.
  Region.allocate({ bytes: 4096 }).bytes.fill(1);
}
