// The child process of test/support/scenario.ts: node run-scenario.js FILE NAME [ARG…]

type Scenario = (...args: string[]) => unknown;

async function main(): Promise<void> {
  const [file, name, ...args] = process.argv.slice(2);
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- the name is only known now
  const scenarios = require(file!) as Record<string, Scenario | undefined>;
  const scenario = scenarios[name!];
  if (scenario === undefined) throw new Error(`${file} has no scenario ${name}`);
  let isOver = false;
  // Node.js ends quietly when nothing is left that could settle what a scenario waits for.
  process.on('beforeExit', () => {
    if (isOver) return;
    console.error(`${name} waits for what never comes`);
    process.exitCode = 13;
  });
  await scenario(...args);
  isOver = true;
}

void main();
