// A test that cannot run says which and why; in CI that is a failure.

import type { TestContext } from 'node:test';

/** Skips with the remedy, or fails where UFFD_TEST_STRICT=1. */
export function cannotRun(t: TestContext, remedy: string): void {
  if (process.env['UFFD_TEST_STRICT'] === '1')
    throw new Error(`cannot run here, and UFFD_TEST_STRICT=1: ${remedy}`);
  t.skip(remedy);
}
