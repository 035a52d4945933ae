// npm run stress [-- --seconds N]: the stress test, N seconds (default 10) for each kind of memory and
// each way of ending faults.

import { parseArgs } from 'node:util';
import { RESOLVERS, runStress, STRESS_KINDS } from './support/stress.js';

async function main(): Promise<void> {
  process.env['UFFD_TEST_ADDON'] = '1';
  const { values } = parseArgs({ options: { seconds: { type: 'string', default: '10' } } });
  const seconds = Number(values.seconds);
  if (!(seconds > 0)) throw new RangeError(`--seconds must be a positive number, not ${values.seconds}`);
  for (const kind of STRESS_KINDS) {
    for (const resolve of RESOLVERS) {
      const { passes, faults } = await runStress(kind, resolve, seconds * 1000);
      console.log(`${kind}, ${resolve}: ${passes} passes, ${faults} faults, no counter lost`);
    }
  }
}

void main();
