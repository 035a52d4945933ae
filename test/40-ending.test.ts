// A process or a Worker ends within two seconds, also while a thread sleeps in a fault that the loop
// does not end: it is held at a barrier.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { passScenario, runScenario, type ScenarioOptions } from './support/scenario.js';
import { directoryFor } from './support/snapshot-files.js';
import { EXIT_CODE } from './scenarios/ending.js';

const SOON_MS = 8000;

interface Expected {
  code?: number;
  signal?: NodeJS.Signals;
  stderr?: RegExp;
}

function endsSoon(
  title: string,
  scenario: string,
  args: string[],
  expected: Expected = {},
  options?: ScenarioOptions & { file?: string },
): void {
  test(title, async () => {
    const result = await runScenario(options?.file ?? 'ending', scenario, { args, ...options });
    const said = `\n${result.stdout}${result.stderr}`;
    assert.match(result.stdout, /READY/, said);
    if (expected.signal === undefined) assert.equal(result.code, expected.code ?? 0, said);
    else assert.equal(result.signal, expected.signal, said);
    if (expected.stderr !== undefined) assert.match(result.stderr, expected.stderr);
    assert.ok(result.sinceReadyMs < SOON_MS, `the ending took ${Math.round(result.sinceReadyMs)} ms`);
  });
}

const SLEEPERS = { worker: 'a Worker that writes', read: 'fs.read', random: 'crypto.randomFill' };
const ENDINGS: Record<string, [title: string, expected: Expected]> = {
  exit: ['process.exit()', { code: EXIT_CODE }],
  natural: ['the natural end', { code: EXIT_CODE }],
  throw: ['an uncaught throw', { code: 1, stderr: /thrown and not caught/ }],
  handler: ['a SIGTERM handler that exits', { code: EXIT_CODE }],
  signal: ['SIGTERM', { signal: 'SIGTERM' }],
  // Of these no net of ours hears anything (F).
  kill: ['SIGKILL', { signal: 'SIGKILL' }],
  abort: ['abort()', { signal: 'SIGABRT' }],
};

for (const [sleeper, who] of Object.entries(SLEEPERS)) {
  describe(`with ${who} asleep in a fault`, { concurrency: 3 }, () => {
    for (const [ending, [how, expected]] of Object.entries(ENDINGS)) {
      endsSoon(`${how} ends the process (A1)`, 'end', [sleeper, ending], expected);
    }
    for (const ending of ['signal', 'kill', 'abort']) {
      const [how, expected] = ENDINGS[ending]!;
      endsSoon(`${how} ends the process without any net (F)`, 'end', [sleeper, ending, 'none'], expected);
    }
    for (const ending of ['exit', 'throw', 'handler']) {
      const [how, expected] = ENDINGS[ending]!;
      endsSoon(
        `${how} ends the process with the exit listener alone (A1)`,
        'end',
        [sleeper, ending, 'exit'],
        expected,
      );
      endsSoon(
        `${how} ends the process with the watchdog alone (A1)`,
        'end',
        [sleeper, ending, 'watchdog'],
        expected,
      );
    }
  });
}

describe('with a thread that waits for a source which does not answer', { concurrency: 3 }, () => {
  for (const ending of ['exit', 'throw', 'handler']) {
    const [how, expected] = ENDINGS[ending]!;
    endsSoon(`${how} ends the process`, 'endsWithStuckSource', [ending, 'zeropage'], expected);
  }
  endsSoon(
    'process.exit() ends it by SIGBUS where bytes are not made up',
    'endsWithStuckSource',
    ['exit', 'poison'],
    {
      signal: 'SIGBUS',
    },
  );
});

describe('the natural end', () => {
  endsSoon(
    'needs the exit listener alone while a Worker sleeps (A1)',
    'end',
    ['worker', 'natural', 'exit'],
    ENDINGS['natural']![1],
  );
  for (const sleeper of ['worker', 'read', 'random']) {
    endsSoon(
      `needs the watchdog alone (${sleeper}) (A1)`,
      'end',
      [sleeper, 'natural', 'watchdog'],
      ENDINGS['natural']![1],
    );
  }
});

// None of these is heard by the exit listener, and no loop stands still.
const WORKERS = 'Workers asleep in faults that another one serves';
const POOL = 'crypto.randomFill asleep in a fault that the main thread serves';
const THROWN = { code: 1, stderr: /thrown and not caught/ };
const LISTENER_THROWS = { code: 7, stderr: /a listener that throws/ };
const UNHEARD: [
  who: string,
  sleeper: string,
  why: string,
  silence: string,
  ways: Record<string, Expected>,
][] = [
  [
    WORKERS,
    'workers',
    'the main thread only imports the package',
    'imported',
    { exit: {}, natural: {}, handler: {}, reallyExit: {}, throw: THROWN },
  ],
  ...([WORKERS, POOL] as const).flatMap((who): typeof UNHEARD => {
    const sleeper = who === POOL ? 'pool' : 'workers';
    return [
      [who, sleeper, 'an earlier exit listener exits', 'exits', { exit: {}, handler: {} }],
      [who, sleeper, 'an earlier exit listener throws', 'throws', { exit: LISTENER_THROWS }],
      [
        who,
        sleeper,
        'all exit listeners were removed',
        'removed',
        { exit: {}, handler: {}, reallyExit: {}, throw: THROWN },
      ],
    ];
  }),
];

describe('a process whose exit listener does not run', { concurrency: 3 }, () => {
  for (const [who, sleeper, why, silence, ways] of UNHEARD) {
    for (const [way, expected] of Object.entries(ways)) {
      endsSoon(
        `ends by ${way} with ${who}: ${why} (A1)`,
        'end',
        [silence, sleeper, way],
        { code: EXIT_CODE, ...expected },
        { file: 'ending-unheard' },
      );
    }
  }
  endsSoon(
    'ends naturally with pool work that an exit listener began (A1)',
    'poolAtTheEnd',
    [],
    { code: EXIT_CODE },
    { file: 'ending-unheard' },
  );
  test('is not what native code does that waits for its own threads', async () => {
    await passScenario('ending-unheard', 'joinOwnThread');
  });
});

describe('while the process ends', () => {
  endsSoon(
    'a Worker cannot open the next userfaultfd that somebody would sleep in (A1)',
    'reopen',
    [],
    { code: EXIT_CODE },
    { file: 'ending-unheard' },
  );
  test('everything that has faults is refused (A1)', async (t) => {
    await passScenario('ending-unheard', 'openAtTheEnd', { args: [directoryFor(t)] });
  });
});

describe('a Worker that sleeps on the descriptor it owns', () => {
  endsSoon('is ended by terminate() (A5)', 'terminateSleepingOwner', []);
  endsSoon('is ended by terminate() with the watchdog alone (A5)', 'terminateSleepingOwner', ['watchdog']);
  endsSoon('does not hold up process.exit() (A1, A5)', 'exitWithSleepingOwner', [], { code: EXIT_CODE });
  endsSoon('does not hold up process.exit() with the watchdog alone', 'exitWithSleepingOwner', ['watchdog'], {
    code: EXIT_CODE,
  });
  endsSoon(
    'does not hold up process.exit() with the exit listener alone, where the main thread loaded the addon',
    'exitWithListenerAndSleepingOwner',
    ['exit'],
    { code: EXIT_CODE },
  );
});

describe('the end of a Worker that owns the descriptor', () => {
  for (const how of ['return', 'exit', 'terminate']) {
    endsSoon(`frees who sleeps on it (${how})`, 'ownerEnds', [how]);
    endsSoon(`frees who sleeps on it with the clean-up hook alone (${how})`, 'ownerEnds', [how, 'cleanup']);
  }
  for (const how of ['exit', 'terminate']) {
    endsSoon(
      `ends its pool work, asleep in a fault of its own handler (${how}) (A5)`,
      'poolOwnerEnds',
      [how],
      {},
      { file: 'ending-unheard' },
    );
  }
  endsSoon('leaves the addon in memory when no other thread loaded it (C1)', 'loadedInWorkerOnly', []);
});

describe('EVENT_UNMAP and EVENT_REMOVE with nobody who reads', () => {
  for (const loop of ['running', 'held']) {
    endsSoon(`do not hold up the natural end, the loop ${loop} (A6)`, 'naturalEndWithEvents', [loop]);
    endsSoon(`do not hold up the end of a Worker, the loop ${loop} (A6)`, 'workerEndWithEvents', [loop]);
    endsSoon(
      `do not hold up the garbage collector, the loop ${loop} (A6)`,
      'collectedWithEvents',
      [loop],
      {},
      { nodeArgs: ['--expose-gc'] },
    );
  }
  test('do not hold up a region that goes before its userfaultfd (A6)', async () => {
    await passScenario('ending', 'regionCollectedWithEvents', { nodeArgs: ['--expose-gc'] });
  });
});
