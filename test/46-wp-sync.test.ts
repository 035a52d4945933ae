// The engine whose faults a loop of this package ends. What it reports is in test 50, for all engines.

import { test } from 'node:test';
import type { ScenarioOptions } from './support/scenario.js';
import { passScenario } from './support/scenario.js';

function it(title: string, scenario: string, options: ScenarioOptions = {}): void {
  test(`it ${title}`, async () => {
    await passScenario('wp-sync', scenario, options);
  });
}

it(
  'loses no write that comes while a collect runs: noting and unprotecting are one step',
  'collectBetweenNoteAndUnprotect',
);
it('frees a writer whose fault nobody has read when the tracker closes', 'closeFreesWriter', {
  args: ['close'],
});
it('frees it when the process exits', 'closeFreesWriter', { args: ['exit'] });
it('counts everything as written when its loop is lost, and goes on with a new one', 'losesItsLoop');
it('finds pages that lost content or protection without a fault (B2, B10, B11)', 'lostProtection');
it('waits for nobody when it cannot arm a page while others write', 'mappedAnewUnderWriters');
it('tells which thread wrote, and where', 'tellsWhoWrote');
it('tells it with the pages, also when a collect failed in between', 'tellsLaterWhoWrote');
it('counts the writes that are too many to be kept, and loses no page', 'manyWrites');
it('refuses memory that shares its pages with other data, by name (B9)', 'refusesBuffers');
it('is the only owner of what it tracks', 'owns');
it('has one thread for all trackers, and none when the last is closed', 'endsItsThread');
it('asks an ordinary user whether system calls may fail', 'ordinaryUser', { asNobody: true });
it('comes after wp-async and before compare, for memory that it takes', 'automatic');

for (const kernel of ['Linux 6.6', 'Linux 6.3', 'Linux 5.13']) {
  it(`works with what ${kernel} has, also for pages never touched (B15)`, 'onOldKernel', { args: [kernel] });
}
