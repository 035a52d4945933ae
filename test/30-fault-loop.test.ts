// The native fault loop: it ends every fault itself, whoever raised it, and tells what it did.

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { passScenario, type ScenarioOptions } from './support/scenario.js';

function it(title: string, scenario: string, options?: ScenarioOptions): void {
  test(title, async () => {
    await passScenario('loop', scenario, options);
  });
}

describe('a fault', () => {
  it('tells region, exact byte, reason, access and thread of a write to an armed page', 'writeToArmedPage');
  it(
    'tells the page and no thread where EXACT_ADDRESS and THREAD_ID were not asked for',
    'offsetWithoutExactAddress',
  );
  it(
    'is raised by the first read and the first write of a missing page, and ended with zeros',
    'missingPages',
  );
  it('changes from missing to write-protect on a page registered in both modes (D9)', 'bothModes');
  it(
    'is first missing, then write-protect, on an armed page that was never touched (D9)',
    'bothModesOnArmedHole',
  );
  it('is raised by the first write ever, with WP_UNPOPULATED (B15)', 'firstWriteEver');
  it('is raised by the first write ever to plain and shared Wasm memory (B15)', 'firstWriteEverToWasmMemory');
  it(
    'is not raised by the first write ever without WP_UNPOPULATED, and armedPages() says so (B15)',
    'firstWriteEverOldBehaviour',
  );
  it("carries the kernel's id of the thread: the main thread's and a Worker's", 'threadIds');
  it('is one event when eight Workers write one page (E)', 'eightWritersOfOnePage');
});

describe('the loop', () => {
  it('frees eight Workers that write one page, 500 times', 'eightWritersManyTimes');
  it(
    'serves a program of one thread that writes its own armed pages 100,000 times while it observes (D1)',
    'mainThreadOnly',
    { timeoutMs: 60_000 },
  );
  it('goes on, and counts in missedEvents what did not fit, when nobody reads', 'queueOverflow', {
    timeoutMs: 60_000,
  });
  it('lets the process end after 100,000 faults while the main thread was busy (A7)', 'busyMainThread', {
    timeoutMs: 60_000,
  });
  it('needs no memory of the C library: faults with one malloc arena (D7)', 'faultStorm', {
    env: { MALLOC_ARENA_MAX: '1' },
  });
});

describe('a system call that writes armed memory', () => {
  it('is served in pool threads: fs.read and crypto.randomFill', 'poolThreadsWithPrivilege');
  it('is served in every pool thread at once, also when there is only one (D2)', 'everyPoolThreadAtOnce', {
    env: { UV_THREADPOOL_SIZE: '1' },
  });
  it('is served in all four pool threads at once (D2)', 'everyPoolThreadAtOnce');
  it('fails with EFAULT under user-mode-only, and nothing waits', 'userModeOnly');
  it('fails with EFAULT for an ordinary user, and nothing waits', 'userModeOnly', { asNobody: true });
});

describe('resolving from JavaScript', () => {
  it('fills missing pages with copy(), without a fault', 'copyIntoMissing');
  it(
    'throws EEXIST from copy() onto a page that exists, and tells how far it came (B17)',
    'copyOntoExisting',
  );
  it(
    'keeps the protection with copy({ writeProtect: true }) and drops it without (B16)',
    'copyKeepsProtection',
  );
  it('fills with zeropage(), which takes an armed hole for an existing page (B16)', 'zeropages');
  it('leaves the reader asleep after copy({ wake: false }) until wake()', 'copyWithoutWake');
  it('leaves the reader asleep after zeropage({ wake: false }) until wake()', 'zeropageWithoutWake');
  it('leaves the writer asleep after unprotect({ wake: false }) until wake()', 'unprotectWithoutWake');
  it('frees the writer with unprotect(), and leaves the other pages armed', 'unprotectWakes');
  it('resolves nothing with wake() alone: the thread faults again', 'wakeAlone');
  it('wakes the reader when the page came while the loop had its fault in hand (D8)', 'filledByTwo');
});

describe('a fault that somebody else ended while the loop had it in hand', () => {
  it('leaves the page alone that was armed again (B13)', 'lateFault', { args: ['arm'] });
  it('leaves the page alone that was registered anew and armed (B13)', 'lateFault', { args: ['register'] });
});

describe('other events', () => {
  it(
    'do not keep child_process waiting: 100 spawns with EVENT_FORK and nobody reading, armed memory stays behind (D3, B3)',
    'spawns',
  );
  it(
    "reads the event that each of 100 forks waits for, and closes the child's userfaultfd (D3)",
    'spawnsWithEvents',
    { timeoutMs: 60_000 },
  );
  it('tell of discarded pages with EVENT_REMOVE', 'discarded');
  it('do not stop faults that meet a discard half way (D4, D5)', 'faultsWhileDiscarding', {
    timeoutMs: 20_000,
  });
});

describe('an error of the loop', () => {
  for (const [name, errno] of [
    ['EAGAIN', 11],
    ['ENOMEM', 12],
    ['EEXIST', 17],
    ['ENOENT', 2],
    ['ESRCH', 3],
  ] as const) {
    it(`passes when it is ${name}: the fault is ended and told once (A8)`, 'passingError', {
      args: [String(errno)],
    });
  }
  it('that is fatal releases everything, frees the writer and rejects the iterator (A8)', 'fatalError');
  for (const reads of ['later', 'before']) {
    it(`that is fatal comes after the events before it; they are read ${reads}`, 'fatalErrorBehindEvents', {
      args: [reads],
    });
  }
  it('that is fatal frees a main thread that waits (A8)', 'fatalErrorInMainThread');
  it('that lets it stand still is found out by the watchdog (A8)', 'stuckLoop');
});

describe('signals', () => {
  it(
    'during one fault repeat it 200 times in the kernel and once for the observer (E)',
    'signalsDuringOneFault',
  );
  for (const signal of ['SIGUSR1', 'SIGUSR2', 'SIGPROF']) {
    it(`${signal} in a flood does not disturb a storm of faults (A8)`, 'signalFlood', {
      args: [signal],
      timeoutMs: 30_000,
    });
  }
  test('of --cpu-prof do not disturb a storm of faults (A8)', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'uffd-profile-'));
    try {
      await passScenario('loop', 'faultStorm', {
        nodeArgs: ['--cpu-prof', '--cpu-prof-interval=100', `--cpu-prof-dir=${directory}`],
        timeoutMs: 30_000,
      });
      assert.ok(readdirSync(directory).length > 0, 'no profile was written');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
