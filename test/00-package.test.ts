// What a user gets with the package: names, types, files, and plain words where it cannot work.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import ts from 'typescript';
import { cannotRun } from './support/skip.js';

const root = path.join(__dirname, '..', '..');
const read = (...names: string[]): string => readFileSync(path.join(root, ...names), 'utf8');

const temporary = mkdtempSync(path.join(os.tmpdir(), 'uffd-package-'));
after(() => {
  rmSync(temporary, { recursive: true, force: true });
});

const VALUE_EXPORTS = [
  'DirtyPages',
  'DirtyTracker',
  'Region',
  'Registration',
  'Snapshot',
  'SnapshotFile',
  'UffdError',
  'Userfaultfd',
  'capabilities',
  'renderHeat',
];

function sources(directory: string, ...endings: string[]): string[] {
  return readdirSync(path.join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .map((name) => path.join(directory, name));
}

/** Without comments and string literals, where system calls are only spoken of. */
function codeOf(file: string): string {
  return read(file).replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"/g, '');
}

/** Runs `text` in a fresh process and returns what it printed as JSON. */
function runText(
  text: string,
  options: { module?: boolean; env?: NodeJS.ProcessEnv; cwd?: string } = {},
): unknown {
  const result = spawnSync(
    process.execPath,
    [`--input-type=${options.module === true ? 'module' : 'commonjs'}`, '-e', text],
    {
      cwd: options.cwd ?? root,
      encoding: 'utf8',
      timeout: 10_000,
      killSignal: 'SIGKILL',
      env: { ...process.env, NODE_OPTIONS: '', ...options.env },
    },
  );
  assert.equal(result.status, 0, `signal ${result.signal}\n${result.stdout}${result.stderr}`);
  return JSON.parse(result.stdout) as unknown;
}

const IOCTL_CALL = /\bioctl\s*\(/;
const KNOWS_NODE = /#\s*include\s*[<"](?:napi|node_api|js_native_api|node|v8|uv)\.h[>"]/;

test('it keeps Node out of native/core, and ioctl in it', () => {
  const core = sources('native/core', '.cc', '.h');
  const wraps = sources('native', '.cc', '.h').filter((file) => !core.includes(file));
  assert.deepEqual(
    core.filter((file) => KNOWS_NODE.test(read(file))),
    [],
  );
  assert.deepEqual(
    wraps.filter((file) => IOCTL_CALL.test(codeOf(file))),
    [],
  );
  // The patterns do find what they look for.
  assert.ok(core.some((file) => IOCTL_CALL.test(codeOf(file))));
  assert.ok(wraps.some((file) => KNOWS_NODE.test(read(file))));
});

test('it loads the addon in lib/binding.ts only', () => {
  const loads = /(?:from|import|require)\s*\(?\s*['"](?:bindings|[^'"]*\.node)['"]|\bprocess\.dlopen\b/;
  const loaders = sources('lib', '.ts').filter((file) => loads.test(read(file)));
  assert.deepEqual(loaders, ['lib/binding.ts']);
});

test('it turns errno into errors in lib/errors.ts only', () => {
  const names = /\bgetSystemErrorMap\b|\bgetSystemErrorName\b|\bos\.constants\b/;
  assert.deepEqual(
    sources('lib', '.ts').filter((file) => names.test(read(file))),
    ['lib/errors.ts'],
  );
  // A bare Error, TypeError or RangeError has no code; the constructors with one are there.
  const bare = /\bnew (?:Type|Range)?Error\(/;
  assert.deepEqual(
    sources('lib', '.ts').filter((file) => bare.test(read(file))),
    ['lib/errors.ts'],
  );
});

test('it gives every value to require()', () => {
  const names = runText("console.log(JSON.stringify(Object.keys(require('userfaultfd'))))") as string[];
  assert.deepEqual(
    VALUE_EXPORTS.filter((name) => !names.includes(name)),
    [],
  );
});

test('it gives what its types say, each from the file that has it', () => {
  const found = runText(`
    const required = require('userfaultfd');
    const index = require(process.cwd() + '/dist/lib/index.js');
    const differ = Object.keys(index).filter((name) => required[name] !== index[name]);
    console.log(JSON.stringify({ differ, names: Object.keys(required).sort(), typed: Object.keys(index).sort() }));
  `) as { differ: string[]; names: string[]; typed: string[] };
  assert.deepEqual(found.differ, []);
  assert.deepEqual(found.names, found.typed);
});

test('it gives the same values by name to ES modules', () => {
  const names = runText("console.log(JSON.stringify(Object.keys(require('userfaultfd'))))") as string[];
  const text = `
    import { ${names.join(', ')} } from 'userfaultfd';
    import whole from 'userfaultfd';
    import { createRequire } from 'node:module';
    const required = createRequire(import.meta.url)(${JSON.stringify(root)});
    const named = { ${names.join(', ')} };
    const differ = Object.keys(required).filter((name) => named[name] !== required[name] || whole[name] !== required[name]);
    const region = Region.allocate({ bytes: 1 });
    console.log(JSON.stringify({ differ, types: Object.values(named).map((value) => typeof value), works: required.Region.isRegion(region) }));
  `;
  const found = runText(text, { module: true }) as { differ: string[]; types: string[]; works: boolean };
  assert.deepEqual(found.differ, []);
  assert.ok(
    found.types.every((type) => type !== 'undefined'),
    found.types.join(),
  );
  assert.equal(found.works, true);
});

test('it keeps its inner files to itself', () => {
  const code = runText(`
    let code; try { require('userfaultfd/dist/lib/binding.js'); } catch (error) { code = error.code; }
    console.log(JSON.stringify(code ?? null));
  `);
  assert.equal(code, 'ERR_PACKAGE_PATH_NOT_EXPORTED');
});

test('it tells package managers where it runs', () => {
  const manifest = JSON.parse(read('package.json')) as Record<string, unknown> & {
    engines: Record<string, string>;
    bin: Record<string, string>;
  };
  assert.deepEqual(manifest['os'], ['linux']);
  assert.equal(manifest.engines['node'], '>=20.19');
  assert.equal(manifest['name'], 'userfaultfd');
  for (const file of [manifest['main'], manifest['types'], manifest.bin['userfaultfd']] as string[]) {
    assert.ok(existsSync(path.join(root, file)), `${file} is built`);
  }
});

const CONSUMER = `
import {
  capabilities, DirtyPages, DirtyTracker, Region, Registration, Snapshot, UffdError, Userfaultfd,
  type AllocateOptions, type Attempt, type ByteRange, type Capabilities, type DirtyRange, type Feature,
  type PageFault, type RestoreStats, type Trackable, type UffdEvent,
} from 'userfaultfd';
import { assertUntouched, assertWrites, measureWrites, type MeasuredWrites } from 'userfaultfd/testing';

const found: Capabilities = capabilities();
const works: boolean = found.engines.every((engine) => engine.works);
const options: AllocateOptions = { bytes: 4096 };
using region = Region.allocate(options);
const bytes: Uint8Array = region.bytes;
const plain: Trackable = new Float64Array(8);
const memories: Trackable[] = [region, plain, new ArrayBuffer(8), new SharedArrayBuffer(8), new DataView(new ArrayBuffer(8))];
const feature: Feature = 'WP_UNPOPULATED';
// @ts-expect-error -- not a feature of any kernel
const wrong: Feature = 'WP_EVERYTHING';
const range: Partial<ByteRange> = { offset: 0 };

export async function use(signal: AbortSignal): Promise<number> {
  using uffd = Userfaultfd.open({ features: [feature], userModeOnly: 'auto' });
  const registration: Registration = uffd.register(region, ['missing', 'write-protect'], { resolve: 'native' });
  uffd.writeProtect(region, range);
  // @ts-expect-error -- a mode is one of a closed set
  uffd.register(region, 'read-only');
  for await (const event of uffd.events({ signal, batch: 4 })) {
    const any: UffdEvent = event;
    if (any.type === 'pagefault') {
      const fault: PageFault = any;
      return fault.offset + registration.byteLength;
    }
  }
  using tracker = new DirtyTracker(memories, { engine: 'wp-async' });
  for await (const dirty of tracker) {
    const pages: DirtyPages = dirty;
    for (const each of pages) { const one: DirtyRange = each; return one.length; }
  }
  using other = tracker.consumer();
  const both: DirtyPages = other.peek().union(tracker.collect());
  const bitmap: Uint8Array = both.toBitmap();
  tracker.markDirty({ offset: 0, length: bitmap.length });
  const measured: MeasuredWrites<number> = measureWrites(() => 5, region, { engine: 'compare' });
  const later: Promise<MeasuredWrites<string>> = measureWrites(async () => (await Promise.resolve('x')) + 1, region);
  const left: string = assertUntouched(region, { length: 10 }, () => 'left alone').result;
  const wrote: MeasuredWrites<void> = await assertWrites(region, { maxPages: 2 }, async () => { await later; });
  // @ts-expect-error -- an engine is one of a closed set
  new DirtyTracker(memories, { engine: 'soft-dirty' });
  console.log(left, wrote.pages.pageCount, measured.result);
  using snapshot = Snapshot.take(region, { mode: 'copy' });
  await snapshot.ready;
  const stats: RestoreStats = snapshot.restore();
  return stats.pages + bytes.length + (works ? 1 : 0);
}

export function attemptsOf(error: unknown): readonly Attempt[] {
  return error instanceof UffdError ? (error.attempts ?? []) : [];
}
export const ignored = wrong;
`;

test('it ships types that a strict consumer without the DOM can check', () => {
  const project = path.join(temporary, 'consumer');
  mkdirSync(path.join(project, 'node_modules'), { recursive: true });
  symlinkSync(root, path.join(project, 'node_modules', 'userfaultfd'));
  writeFileSync(path.join(project, 'package.json'), '{"type":"module"}');
  const file = path.join(project, 'consumer.ts');
  writeFileSync(file, CONSUMER);
  const program = ts.createProgram([file], {
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true,
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2022.d.ts', 'lib.esnext.disposable.d.ts'],
    module: ts.ModuleKind.Node16,
    moduleResolution: ts.ModuleResolutionKind.Node16,
    types: ['node'],
    typeRoots: [path.join(root, 'node_modules', '@types')],
  });
  const said = ts.getPreEmitDiagnostics(program).map((each) => {
    const where = each.file === undefined ? '' : `${path.relative(root, each.file.fileName)}: `;
    return where + ts.flattenDiagnosticMessageText(each.messageText, '\n');
  });
  assert.deepEqual(said, []);
  assert.ok(program.getSourceFiles().some((each) => each.fileName.endsWith('/dist/lib/index.d.ts')));
});

test('it packs what is needed to build and use it, and no tests', (t) => {
  const packed = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    encoding: 'utf8',
  });
  if (packed.error !== undefined) {
    cannotRun(t, 'npm is not on the PATH');
    return;
  }
  assert.equal(packed.status, 0, packed.stderr);
  const [archive] = JSON.parse(packed.stdout) as [{ files: { path: string }[] }];
  const files = archive.files.map((each) => each.path);
  const needed = [
    'binding.gyp',
    'package.json',
    'scripts/build-native.mjs',
    'dist/lib/main.js',
    'dist/lib/index.js',
    'dist/lib/index.d.ts',
    'dist/lib/binding.js',
    'dist/lib/cli.js',
    'dist/bench/run.js',
    ...sources('native', '.cc', '.h'),
    ...sources('bench/native', '.c', '.h'),
  ];
  assert.deepEqual(
    needed.filter((name) => !files.includes(name)),
    [],
  );
  const unwanted =
    /^(?:dist\/test|test|build|node_modules|lib|\.ci)\/|^bench\/(?!native\/)|\.test\.|\.node$|^\./;
  assert.deepEqual(
    files.filter((name) => unwanted.test(name)),
    [],
  );
});

test('it builds from every source file, and from none that is missing', () => {
  const named = [...read('binding.gyp').matchAll(/"(native\/[^"]+\.cc)"/g)].map((match) => match[1]!);
  assert.deepEqual(named.sort(), sources('native', '.cc').sort());
});

test('it pins no registry address in package-lock.json', () => {
  assert.doesNotMatch(read('package-lock.json'), /"resolved"/);
});

test('it asks Node for Node-API 9 alone, so one binary serves every version', (t) => {
  const listed = spawnSync(
    'nm',
    ['-D', '--undefined-only', path.join(root, 'build/Release/userfaultfd.node')],
    {
      encoding: 'utf8',
    },
  );
  if (listed.error !== undefined) {
    cannotRun(t, 'nm is missing: install binutils');
    return;
  }
  assert.equal(listed.status, 0, listed.stderr);
  const symbols = [...listed.stdout.matchAll(/ U ([^\s@]+)/g)].map((match) => match[1]!);
  assert.ok(symbols.includes('napi_create_function'), 'the list is of this addon');
  assert.deepEqual(
    symbols.filter((name) => /^_Z[A-Z0-9]*?(?:2v8|4node)/.test(name)),
    [],
  );
  const version9 = [
    'node_api_symbol_for',
    'node_api_create_syntax_error',
    'node_api_throw_syntax_error',
    'node_api_get_module_file_name',
  ];
  assert.deepEqual(
    symbols.filter((name) => name.startsWith('node_api_') && !version9.includes(name)),
    [],
  );
});

test('it carries nothing of the test build', () => {
  const names = runText(
    "const b = require(process.cwd() + '/dist/lib/binding.js'); console.log(JSON.stringify(Object.keys(b.binding())))",
    { env: { UFFD_TEST_ADDON: '' } },
  ) as string[];
  assert.ok(names.includes('probe'));
  assert.ok(!names.includes('testing'));
});

/** Uses everything, and says for each what came of it. */
const USE_ALL = `
  const said = (use) => { try { use(); return 'worked'; } catch (error) { return { name: error.name, code: error.code, message: error.message, hint: error.hint, cause: error.cause?.message }; } };
  const { capabilities, DirtyTracker, Region, Snapshot, Userfaultfd } = whole;
  const found = capabilities();
  console.log(JSON.stringify({
    found,
    used: [
      said(() => Region.allocate({ bytes: 4096 })),
      said(() => Userfaultfd.open()),
      said(() => new DirtyTracker(new Uint8Array(8192))),
      said(() => Snapshot.take(new Uint8Array(8192))),
    ],
  }));
`;

interface Said {
  name: string;
  code: string;
  message: string;
  hint?: string;
  cause?: string;
}
interface UsedAll {
  found: {
    platform: string;
    kernel?: string;
    engines: { works: boolean; reason?: string }[];
    problems: { id: string; severity: string; cause: string; remedy: string }[];
  };
  used: Said[];
}

test('it imports on another platform, and says so when it is used (ERR_UFFD_NOT_LINUX)', () => {
  const { found, used } = runText(`
    Object.defineProperty(process, 'platform', { value: 'darwin' });
    const whole = require('userfaultfd');
    ${USE_ALL}`) as UsedAll;
  for (const error of used) {
    assert.equal(error.name, 'UffdError');
    assert.equal(error.code, 'ERR_UFFD_NOT_LINUX');
    assert.match(error.message, /Linux.*darwin/);
  }
  assert.equal(used.length, 4);
  assert.equal(found.platform, 'darwin');
  assert.equal(found.kernel, undefined);
  assert.deepEqual(
    found.problems.map((each) => [each.id, each.severity]),
    [['not-linux', 'error']],
  );
  assert.ok(found.problems[0]!.remedy.length > 0);
  assert.ok(
    found.engines.length > 0 && found.engines.every((each) => !each.works && each.reason !== undefined),
  );
});

function packageWithoutAddon(name: string): string {
  const copy = path.join(temporary, name);
  cpSync(path.join(root, 'dist', 'lib'), path.join(copy, 'dist', 'lib'), { recursive: true });
  cpSync(path.join(root, 'package.json'), path.join(copy, 'package.json'));
  symlinkSync(path.join(root, 'node_modules'), path.join(copy, 'node_modules'));
  return copy;
}

function assertAddonMissing({ found, used }: UsedAll): void {
  assert.equal(used.length, 4);
  for (const error of used) {
    assert.equal(error.name, 'UffdError');
    assert.equal(error.code, 'ERR_UFFD_ADDON_MISSING');
    assert.match(error.message, /userfaultfd\.node/);
    assert.match(error.message, /npm rebuild userfaultfd/);
    assert.match(error.message, /npm run build/);
    assert.match(error.message, /g\+\+, make and python3/);
    assert.equal(error.hint, 'npm rebuild userfaultfd');
    assert.ok(error.cause !== undefined && error.cause.length > 0, 'the loader’s own words are the cause');
  }
  assert.deepEqual(
    found.problems.map((each) => [each.id, each.severity]),
    [['addon-missing', 'error']],
  );
  assert.match(found.problems[0]!.remedy, /npm rebuild userfaultfd/);
  assert.ok(found.engines.length > 0 && found.engines.every((each) => !each.works));
}

test('it requires at run time only what its users install with it', () => {
  const { dependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const shipped = ['lib', 'bench'].flatMap((name) => sources(path.join('dist', name), '.js'));
  const required = shipped.flatMap((file) =>
    [...readFileSync(path.join(root, file), 'utf8').matchAll(/require\("([^".][^"]*)"\)/g)].map(
      ([, name]) => name!,
    ),
  );
  const packages = new Set(required.filter((name) => !name.startsWith('node:')));
  assert.ok(packages.size > 0);
  for (const name of packages) assert.ok(name in dependencies, `${name} is not a dependency`);
});

test('it says how to build the addon when the file is missing (ERR_UFFD_ADDON_MISSING)', () => {
  const copy = packageWithoutAddon('without-addon');
  const text = `const whole = require(${JSON.stringify(copy)}); ${USE_ALL}`;
  assertAddonMissing(runText(text, { cwd: copy, env: { UFFD_TEST_ADDON: '' } }) as UsedAll);
});

test('it says the same when the file is there and damaged', () => {
  const copy = packageWithoutAddon('damaged-addon');
  mkdirSync(path.join(copy, 'build', 'Release'), { recursive: true });
  writeFileSync(path.join(copy, 'build', 'Release', 'userfaultfd.node'), 'this is no shared object');
  const text = `const whole = require(${JSON.stringify(copy)}); ${USE_ALL}`;
  assertAddonMissing(runText(text, { cwd: copy, env: { UFFD_TEST_ADDON: '' } }) as UsedAll);
});

test('it names a missing compiler when it cannot be built', () => {
  // Nothing on this PATH but what is needed to start Node.
  const result = spawnSync(process.execPath, [path.join(root, 'scripts', 'build-native.mjs')], {
    encoding: 'utf8',
    env: { PATH: path.join(temporary, 'empty') },
  });
  assert.equal(result.status, 1);
  assert.match(result.stderr, /C\+\+20 compiler/);
  assert.match(result.stderr, /python3/);
  assert.match(result.stderr, /apt-get install/);
});
