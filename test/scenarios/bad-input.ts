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

/** The source lies in memory whose missing pages a descriptor of this process serves (D6). */
export function copiesFromItself(userModeOnly: string): void {
  const pageSize = Region.allocate({ bytes: 1 }).pageSize;
  const uffd = Userfaultfd.open({ userModeOnly: userModeOnly === 'true' });
  const region = Region.allocate({ bytes: 8 * pageSize });
  uffd.register(region, ['missing', 'write-protect']);
  const page = (index: number): Uint8Array => region.bytes.subarray(index * pageSize, (index + 1) * pageSize);
  page(3).fill(7);
  const refused = { name: 'UffdError', code: 'ERR_UFFD_SOURCE_REGISTERED' };
  // Missing itself, onto itself, there already: whoever reads it might wait.
  assert.throws(() => uffd.copy(region, 0, page(1)), refused);
  assert.throws(() => uffd.copy(region, 2 * pageSize, page(2)), refused);
  assert.throws(() => uffd.copy(region, 4 * pageSize, page(3)), refused);
  // Of another userfaultfd, also in part.
  const other = Userfaultfd.open();
  const elsewhere = Region.allocate({ bytes: pageSize });
  other.register(elsewhere, 'missing');
  assert.throws(() => uffd.copy(region, 0, elsewhere.bytes), refused);
  other.close();
  assert.equal(uffd.copy(region, 0, elsewhere.bytes), pageSize);
  // Reading armed pages never waits.
  const armed = Region.allocate({ bytes: pageSize });
  armed.bytes.fill(8);
  uffd.register(armed, 'write-protect');
  uffd.writeProtect(armed);
  assert.equal(uffd.copy(region, 4 * pageSize, armed.bytes), pageSize);
  assert.ok(page(4).every((byte) => byte === 8));
  assert.equal(uffd.armedPages(armed), 1);
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
