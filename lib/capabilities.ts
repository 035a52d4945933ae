// What this machine lets this user do, and for each thing missing its cause and its remedy.

import { release } from 'node:os';
import { binding, type NativeProbe } from './binding.js';
import { errnoName, shortageHint, UffdError, type AccessName, type Attempt } from './errors.js';
import { featureNames, ioctlNames } from './features.js';
import type { Backing } from './allocation.js';
import { hugePages, readSetting, type HugePages } from './huge-pages.js';
import { Region } from './region.js';

export interface EngineCapability {
  name: 'wp-async' | 'wp-sync' | 'compare';
  works: boolean;
  /** Why not, when it does not. */
  reason: string | undefined;
}

/** A kind of memory of our own; `reason` says why not, when it does not work. */
export interface MemoryCapability {
  backing: Exclude<Backing, 'file'>;
  works: boolean;
  reason: string | undefined;
}

export interface Problem {
  /** Stable name, for programs. */
  id:
    | 'not-linux'
    | 'addon-missing'
    | 'addon-disabled'
    | 'descriptors'
    | 'memory'
    | 'no-userfaultfd'
    | 'seccomp'
    | 'sysctl'
    | 'device-permissions'
    | 'no-device'
    | 'old-kernel'
    | 'pagemap';
  /** Whether nothing works because of it, or only less. */
  severity: 'error' | 'limit';
  cause: string;
  remedy: string;
}

export interface Capabilities {
  platform: string;
  architecture: string;
  /** Kernel release, or undefined where this is not Linux. */
  kernel: string | undefined;
  node: string;
  /** In bytes; undefined when the addon could not be loaded. */
  pageSize: number | undefined;
  hugePages: HugePages;
  /** What `Region.allocate` gives now; `hugetlb` needs a free huge page. */
  memory: MemoryCapability[];
  /** Each way of opening a userfaultfd. */
  access: Attempt[];
  /** Whether faults raised inside system calls can be served. */
  handlesKernelFaults: boolean;
  /** By name; bits this version has no name for are `BIT_n`. */
  features: string[];
  /** All bits, as `0x…`. */
  featureBits: string;
  /** The ioctls of the descriptor itself. */
  ioctls: string[];
  pagemapScan: { works: boolean; code: string | undefined };
  engines: EngineCapability[];
  problems: Problem[];
}

const ACCESS: readonly AccessName[] = ['device', 'syscall', 'user-mode-only'];

/**
 * Probes the machine on throw-away descriptors. Never throws, on any platform, whatever is missing.
 */
export function capabilities(): Capabilities {
  const linux = process.platform === 'linux';
  const found: Capabilities = {
    platform: process.platform,
    architecture: process.arch,
    kernel: linux ? release() : undefined,
    node: process.version,
    pageSize: undefined,
    hugePages: hugePages(),
    memory: memory(),
    access: [],
    handlesKernelFaults: false,
    features: [],
    featureBits: '0x0',
    ioctls: [],
    pagemapScan: { works: false, code: undefined },
    engines: [],
    problems: [],
  };
  let probe: NativeProbe;
  try {
    probe = binding().probe();
  } catch (error) {
    found.engines = engines(error instanceof UffdError ? error.message : String(error), undefined);
    found.problems.push(loadProblem(error));
    return found;
  }
  found.pageSize = probe.pageSize;
  found.access = probe.attempts.map(({ access, errno }) => ({
    access: ACCESS[access]!,
    errno,
    code: codeOf(errno),
  }));
  found.handlesKernelFaults = works(found, 'device') || works(found, 'syscall');
  found.features = featureNames(probe.features);
  found.featureBits = `0x${probe.features.toString(16)}`;
  found.ioctls = ioctlNames(probe.ioctls);
  found.pagemapScan = { works: probe.pagemapScanErrno === 0, code: codeOf(probe.pagemapScanErrno) };
  found.engines = engines(undefined, { probe, found });
  found.problems = problems(found, probe);
  return found;
}

function memory(): MemoryCapability[] {
  return (['anonymous', 'memfd', 'hugetlb'] as const).map((backing) => {
    try {
      Region.allocate({ bytes: 1, backing }).close();
      return { backing, works: true, reason: undefined };
    } catch (error) {
      return { backing, works: false, reason: error instanceof Error ? error.message : String(error) };
    }
  });
}

function codeOf(errno: number): string | undefined {
  return errno === 0 ? undefined : errnoName(errno);
}

function works(found: Capabilities, access: AccessName): boolean {
  return found.access.some((each) => each.access === access && each.code === undefined);
}

function engines(
  missing: string | undefined,
  facts: { probe: NativeProbe; found: Capabilities } | undefined,
): EngineCapability[] {
  const open = facts?.found.access.some((each) => each.code === undefined) ?? false;
  const wpSync =
    (facts?.found.handlesKernelFaults ?? false) &&
    (facts?.found.features.includes('PAGEFAULT_FLAG_WP') ?? false);
  const wpAsync = facts?.probe.wpAsyncErrno === 0;
  const reason = (ok: boolean, otherwise: string): string | undefined =>
    ok ? undefined : (missing ?? otherwise);
  return [
    {
      name: 'wp-async',
      works: wpAsync,
      reason: reason(
        wpAsync,
        !open
          ? 'no userfaultfd can be opened'
          : facts?.found.features.includes('WP_ASYNC')
            ? `the trial run failed with ${errnoName(facts.probe.wpAsyncErrno)}`
            : 'needs WP_ASYNC and PAGEMAP_SCAN, Linux 6.7',
      ),
    },
    {
      name: 'wp-sync',
      works: wpSync,
      reason: reason(
        wpSync,
        !open
          ? 'no userfaultfd can be opened'
          : !(facts?.found.features.includes('PAGEFAULT_FLAG_WP') ?? false)
            ? 'needs write-protect faults, Linux 5.7'
            : 'needs privilege to see what system calls write; with { userModeOnly: true } it works, and those calls fail with EFAULT',
      ),
    },
    { name: 'compare', works: facts !== undefined, reason: missing },
  ];
}

function loadProblem(error: unknown): Problem {
  const code = error instanceof UffdError ? error.code : undefined;
  if (code === 'ERR_UFFD_NOT_LINUX') {
    return {
      id: 'not-linux',
      severity: 'error',
      cause: `userfaultfd is a Linux system call; this is ${process.platform}`,
      remedy: 'Run on Linux (a container or virtual machine will do).',
    };
  }
  if (code === 'EMFILE') return shortage(code, 'error');
  if (code === 'ERR_UFFD_ADDON_DISABLED') {
    const { message, hint } = error as UffdError;
    return { id: 'addon-disabled', severity: 'error', cause: message, remedy: hint! };
  }
  return {
    id: 'addon-missing',
    severity: 'error',
    cause: error instanceof Error ? error.message : String(error),
    remedy: 'npm rebuild userfaultfd (in a checkout: npm run build); needs g++, make and python3.',
  };
}

/** Descriptors or memory that ran out say nothing about the kernel. */
function shortages(found: Capabilities, probe: NativeProbe): Problem[] {
  const tracking = [probe.pagemapOpenErrno, probe.pagemapScanErrno, probe.wpAsyncErrno].map(codeOf);
  const opening = found.access.map((each) => each.code);
  const ranOut = (code: string | undefined): boolean => shortageHint(code) !== undefined;
  const severity = tracking.some(ranOut) || opening.every(ranOut) ? 'error' : 'limit';
  const codes = new Set([...opening, ...tracking].filter(ranOut));
  return [...codes].map((code) => shortage(code!, severity));
}

function shortage(code: string, severity: Problem['severity']): Problem {
  return {
    id: code === 'ENOMEM' ? 'memory' : 'descriptors',
    severity,
    cause: `${code === 'ENOMEM' ? 'Memory' : 'File descriptors'} ran out (${code}), so not everything could be tried.`,
    remedy: shortageHint(code)!,
  };
}

function problems(found: Capabilities, probe: NativeProbe): Problem[] {
  const list = shortages(found, probe);
  const shortOfSomething = list.length > 0;
  const code = (access: AccessName): string | undefined => {
    const refusal = found.access.find((each) => each.access === access)?.code;
    return shortageHint(refusal) === undefined ? refusal : undefined;
  };
  const userMode = code('user-mode-only');

  if (userMode === 'EPERM' || (userMode === 'ENOSYS' && seccompFilters())) {
    list.push({
      id: 'seccomp',
      severity: works(found, 'device') ? 'limit' : 'error',
      cause: `A seccomp filter refuses the userfaultfd system call (${userMode}); container runtimes install one by default.`,
      remedy:
        'Allow "userfaultfd" in the seccomp profile of the container, or pass the device: --device /dev/userfaultfd (Linux 6.1).',
    });
  } else if (userMode === 'ENOSYS') {
    list.push({
      id: 'no-userfaultfd',
      severity: 'error',
      cause: 'This kernel was built without userfaultfd (CONFIG_USERFAULTFD).',
      remedy: 'Use a kernel with CONFIG_USERFAULTFD=y; distributions have it.',
    });
  } else if (userMode !== undefined) {
    list.push({
      id: 'old-kernel',
      severity: 'error',
      cause: `userfaultfd(UFFD_USER_MODE_ONLY) fails with ${userMode}; it came with Linux 5.11.`,
      remedy: 'Use a newer kernel.',
    });
  } else if (!found.handlesKernelFaults && !shortOfSomething) {
    list.push(...kernelFaultLimits(code('device')));
  }

  if (found.access.some((each) => each.code === undefined)) {
    if (!found.features.includes('WP_UNPOPULATED')) {
      list.push({
        id: 'old-kernel',
        severity: 'limit',
        cause: 'WP_UNPOPULATED is missing: pages that were never touched cannot be armed.',
        remedy: 'Use Linux 6.4 or newer, or touch the pages first.',
      });
    }
    const scanTried = shortageHint(found.pagemapScan.code) === undefined;
    if ((!found.pagemapScan.works && scanTried) || !found.features.includes('WP_ASYNC')) {
      list.push(pagemapProblem(found, probe));
    }
  }
  return list;
}

function kernelFaultLimits(device: string | undefined): Problem[] {
  const effect =
    'Faults inside system calls cannot be served: they fail with EFAULT. wp-async tracking does not need them.';
  const list: Problem[] = [
    {
      id: 'sysctl',
      severity: 'limit',
      cause: `${effect} vm.unprivileged_userfaultfd is ${readSetting('/proc/sys/vm/unprivileged_userfaultfd') ?? 'unknown'} and this process has no CAP_SYS_PTRACE.`,
      remedy: 'sysctl vm.unprivileged_userfaultfd=1, or grant CAP_SYS_PTRACE.',
    },
  ];
  if (device === 'EACCES' || device === 'EPERM') {
    list.push({
      id: 'device-permissions',
      severity: 'limit',
      cause: `/dev/userfaultfd may not be opened by this user (${device}).`,
      remedy: 'Give the group of this user read and write access to /dev/userfaultfd (a udev rule).',
    });
  } else if (device !== undefined) {
    list.push({
      id: 'no-device',
      severity: 'limit',
      cause: `/dev/userfaultfd is not there (${device}); it came with Linux 6.1.`,
      remedy: 'Use Linux 6.1 or newer; in a container pass --device /dev/userfaultfd.',
    });
  }
  return list;
}

function pagemapProblem(found: Capabilities, probe: NativeProbe): Problem {
  if (probe.pagemapOpenErrno !== 0) {
    return {
      id: 'pagemap',
      severity: 'error',
      cause: `/proc/self/pagemap cannot be opened (${errnoName(probe.pagemapOpenErrno)}).`,
      remedy: 'Mount /proc; call capabilities() once before setuid().',
    };
  }
  return {
    id: 'old-kernel',
    severity: 'error',
    cause: `Asynchronous tracking is missing: WP_ASYNC ${found.features.includes('WP_ASYNC') ? 'is there' : 'is not'}, PAGEMAP_SCAN ${found.pagemapScan.works ? 'works' : `fails with ${found.pagemapScan.code}`}.`,
    remedy: 'Use Linux 6.7 or newer.',
  };
}

function seccompFilters(): boolean {
  return /^Seccomp:\s*2$/m.test(readSetting('/proc/self/status') ?? '');
}
