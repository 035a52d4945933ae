// How fast `for await` takes events from the queue.

import { Region, Userfaultfd } from '../../lib/index.js';
import type { BenchCase } from '../harness/bench.js';
import { PAGE, populate } from '../harness/pattern.js';

const EVENTS = 20_000;

const benchCase: BenchCase = {
  title: 'Events that wait in the queue, taken by for await',
  deadlineSeconds: 300,
  needsBytes: 128 * 2 ** 20,

  async run(bench) {
    const events = bench.count(EVENTS);
    using region = Region.allocate({ bytes: events * PAGE, hugePages: 'never' });
    const { bytes } = region;
    populate(bytes);
    using uffd = Userfaultfd.open();
    uffd.register(region, 'write-protect');
    const perSecond = async (batch: number): Promise<number> => {
      uffd.writeProtect(region);
      for (let page = 0; page < events; page++) bytes[page * PAGE] = 1;
      return consume(uffd.events({ batch }), events);
    };
    await bench.row({
      name: `${events.toLocaleString('en')} events`,
      unit: 'per second',
      rounds: 10,
      sides: {
        package: async () => perSecond(256),
        'one at a time from the native queue': async () => perSecond(1),
        'an array of objects': async () => consume(plainEvents(events), events),
      },
      targets: [{ side: 'package', atLeast: 500_000 }],
      ratios: [['package', 'an array of objects']],
      notes: ['an array of objects: what for await costs over an async iterator that has them all'],
    });
  },
};

async function consume(iterable: AsyncIterable<object>, count: number): Promise<number> {
  let seen = 0;
  let offsets = 0;
  const start = process.hrtime.bigint();
  for await (const event of iterable) {
    if ('offset' in event) offsets += event.offset as number;
    if (++seen === count) break;
  }
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  if (offsets === 0 && count > 1) throw new Error('the events have no offsets');
  return count / seconds;
}

function plainEvents(count: number): AsyncIterable<object> {
  const events = Array.from({ length: count }, (_, i) => ({ type: 'pagefault', offset: i * PAGE }));
  return {
    [Symbol.asyncIterator]: () => {
      let next = 0;
      return {
        next: () =>
          Promise.resolve(
            next < count ? { done: false, value: events[next++]! } : { done: true, value: undefined },
          ),
      };
    },
  };
}

export default benchCase;
