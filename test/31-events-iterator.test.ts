// What happens in registered memory, as an async iterator that behaves like Node's own.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { passScenario, runScenario, type ScenarioOptions } from './support/scenario.js';

function it(title: string, scenario: string, options?: ScenarioOptions): void {
  test(title, async () => {
    await passScenario('iterator', scenario, options);
  });
}

describe('the iterator', () => {
  it('gives the events in the order they were resolved', 'inOrder');
  it('gives each event to who waits for it', 'whileWaiting');
  it('finds the event that came after it had looked and found nothing', 'waitsAgainAndAgain');
  it('gives what happened before it was taken', 'fromBefore');
  it('answers several next() in their order', 'severalNexts');
  it('gives the same events in batches of every size', 'batches');
  it(
    'gives the events of a region that was unregistered or closed meanwhile, with their region',
    'unregisteredMeanwhile',
  );
  it('gives a fault that the loop was held in', 'heldLoop');
  it('leaves the event loop its turns when there is always one more', 'endlessEvents');
  it('works in a Worker', 'inWorker');
});

describe('one consumer', () => {
  it('is all there may be: a second one throws ERR_UFFD_BUSY', 'secondConsumer');
  it('that breaks off lets another begin', 'breakReleases');
  it('that breaks off leaves the events it did not take to the next', 'breakLosesNothing');
  it('that returns leaves the events it did not take to the next', 'returnLosesNothing');
  it('that throws in its loop lets another begin', 'throwReleases');
  it('that was dropped lets another begin, and faults end without it', 'droppedIterator', {
    nodeArgs: ['--expose-gc'],
  });
  it(
    'that was dropped after it had waited is collected, and its userfaultfd with it',
    'droppedAfterWaiting',
    {
      nodeArgs: ['--expose-gc'],
    },
  );
});

describe('the end of an iteration', () => {
  it('comes at once with a signal that was aborted before: AbortError, ABORT_ERR, cause', 'abortedBefore');
  it('comes with a signal aborted while it waits', 'abortedDuring');
  it('comes with a signal aborted in the loop', 'abortedInLoop');
  it('leaves no listener on the signal', 'signalIsLetGo');
  it('comes with return() while a next() is pending', 'returnWhileWaiting');
  it('comes with close() while it waits', 'closeWhileWaiting');
  it('comes with close() in the loop', 'closeInLoop');
  it('comes after what had happened before close()', 'closeKeepsWhatHappened');
});

describe('the process', () => {
  test('lives while somebody waits for an event', async () => {
    const { code } = await runScenario('iterator', 'waitingIsReason');
    assert.equal(code, 5);
  });
  it('ends while an unref()ed iterator waits', 'unreferencedIsNoReason');
  it('finds what waits also after unref(), without a turn of the event loop', 'unreferencedFindsWhatWaits');
  it('ends when unref() is called while it waits', 'unreferencedWhileWaiting');
  it('ends when an iterator was taken and nobody waits', 'notWaitingIsNoReason');
  it('ends when the iterator has returned', 'returnedIsNoReason');
  test('lives again after ref()', async () => {
    const { code, stderr } = await runScenario('iterator', 'referencedAgain');
    assert.equal(code, 6, stderr);
  });
  it('keeps a userfaultfd that is only waited for from the garbage collector', 'waitingIsHeld', {
    nodeArgs: ['--expose-gc'],
  });
});
