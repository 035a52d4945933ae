// Conformance: registering, filling with zeros, arming what does not exist.

import assert from 'node:assert/strict';
import { Userfaultfd, type RegisterMode } from '../../lib/index.js';
import { allocate, armed, firstBytes, kindOf, nextFault, numbers, pageOf } from './conformance-support.js';
import { pages } from './loop-support.js';

const MODES = ['missing', 'write-protect', 'minor'] as const;
const IOCTL_OF = { missing: 'COPY', 'write-protect': 'WRITEPROTECT', minor: 'CONTINUE' } as const;

export function registerIoctls(kind: string): void {
  const region = allocate(kind, 2);
  using uffd = Userfaultfd.open();
  for (let bits = 0; bits < 8; bits++) {
    const modes: RegisterMode[] = MODES.filter((_, i) => ((bits >> i) & 1) === 1);
    if (modes.length === 0) {
      assert.throws(() => uffd.register(region, modes), { code: 'ERR_INVALID_ARG_VALUE' });
    } else if (modes.includes('minor') && kind === 'anonymous') {
      assert.throws(() => uffd.register(region, modes), {
        code: 'EINVAL',
        syscall: 'ioctl(UFFDIO_REGISTER)',
      });
    } else {
      const registration = uffd.register(region, modes);
      for (const ioctl of ['WAKE', ...modes.map((mode) => IOCTL_OF[mode])]) {
        assert.ok(registration.ioctls.has(ioctl), `${modes.join()}: ${[...registration.ioctls].join()}`);
      }
      registration.close();
    }
    assert.equal(uffd.registrations.length, 0);
  }
}

export function zeropage(kind: string): void {
  const region = allocate(kind, 8);
  const { pageSize, byteLength } = region;
  using uffd = Userfaultfd.open();
  const { ioctls } = uffd.register(region, 'missing');
  assert.equal(ioctls.has('ZEROPAGE'), !kindOf(kind).hugetlb);
  if (kindOf(kind).hugetlb) {
    assert.throws(() => uffd.zeropage(region), { code: 'EINVAL', syscall: 'ioctl(UFFDIO_ZEROPAGE)' });
    assert.equal(uffd.copy(region, 0, pageOf(region, 0)), pageSize, 'zeros are copied');
    return;
  }
  assert.equal(uffd.zeropage(region, pages(region, 1)), pageSize);
  assert.throws(() => uffd.zeropage(region, pages(region, 1, 2)), { code: 'EEXIST' });
  uffd.copy(region, 5 * pageSize, pageOf(region, 7));
  // As far as it comes.
  assert.equal(uffd.zeropage(region, pages(region, 2, 6)), 3 * pageSize);
  assert.equal(uffd.zeropage(region, pages(region, 0)), pageSize);
  assert.equal(uffd.zeropage(region, pages(region, 6, 2)), 2 * pageSize);
  for (let i = 0; i < 8; i++) {
    assert.throws(() => uffd.zeropage(region, pages(region, i)), { code: 'EEXIST' }, `page ${i}`);
  }
  const all = new Uint8Array(byteLength).fill(7, 5 * pageSize, 6 * pageSize);
  assert.equal(Buffer.compare(region.bytes, all), 0);
  region.bytes[pageSize] = 1;
  assert.equal(region.bytes[pageSize], 1, 'and can be written');
}

export async function wpUnpopulated(kind: string): Promise<void> {
  const region = allocate(kind, 4);
  const { pageSize } = region;
  const uffd = Userfaultfd.open({ features: ['WP_UNPOPULATED', 'WP_HUGETLBFS_SHMEM'] });
  uffd.register(region, 'write-protect');

  // What was never touched is armed and disarmed.
  uffd.writeProtect(region);
  assert.deepEqual(armed(uffd, region), [1, 1, 1, 1]);
  uffd.unprotect(region, pages(region, 1));
  assert.deepEqual(armed(uffd, region), [1, 0, 1, 1]);
  uffd.writeProtect(region, pages(region, 1));

  // A read brings the page in, armed.
  assert.equal(region.bytes[2 * pageSize], 0);
  assert.deepEqual(armed(uffd, region), [1, 1, 1, 1]);

  // First writes: to what does not exist, and to what was read.
  const events = uffd.events();
  for (const page of [1, 2]) {
    region.bytes[page * pageSize + 9] = page;
    const fault = await nextFault(events);
    assert.deepEqual(
      [fault.reason, fault.access, fault.offset, fault.action],
      ['write-protect', 'write', page * pageSize + 9, 'unprotect'],
    );
    assert.equal(region.bytes[page * pageSize + 9], page);
  }
  assert.deepEqual(armed(uffd, region), [1, 0, 0, 1]);

  // Given back, private pages lose their protection and those of a file keep it.
  uffd.writeProtect(region);
  region.discard();
  assert.deepEqual(
    armed(uffd, region),
    numbers(4, () => (kind === 'anonymous' ? 0 : 1)),
  );
  assert.deepEqual(firstBytes(region), [0, 0, 0, 0]);
  uffd.close();
}
