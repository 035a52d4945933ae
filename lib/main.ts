// What require('userfaultfd') gives: the names of index.ts, whose files are loaded when a name is first
// used. A program that only might need the package pays next to nothing for it (test 92).

/* eslint-disable @typescript-eslint/no-require-imports -- an import statement would load the file now */

type Index = typeof import('./index.js');

const loaded: Partial<Index> = {};

/** By the type none of index.ts is missing here. */
const lazily: Readonly<Index> = {
  get capabilities() {
    return (loaded.capabilities ??= (
      require('./capabilities.js') as typeof import('./capabilities.js')
    ).capabilities);
  },
  get ChildUserfaultfd() {
    return (loaded.ChildUserfaultfd ??= (
      require('./child-userfaultfd.js') as typeof import('./child-userfaultfd.js')
    ).ChildUserfaultfd);
  },
  get DirtyPages() {
    return (loaded.DirtyPages ??= (
      require('./dirty-pages.js') as typeof import('./dirty-pages.js')
    ).DirtyPages);
  },
  get DirtyTracker() {
    return (loaded.DirtyTracker ??= (
      require('./dirty-tracker.js') as typeof import('./dirty-tracker.js')
    ).DirtyTracker);
  },
  get LazyRestore() {
    return (loaded.LazyRestore ??= (
      require('./lazy-restore.js') as typeof import('./lazy-restore.js')
    ).LazyRestore);
  },
  get PageFault() {
    return (loaded.PageFault ??= (require('./page-fault.js') as typeof import('./page-fault.js')).PageFault);
  },
  get Region() {
    return (loaded.Region ??= (require('./region.js') as typeof import('./region.js')).Region);
  },
  get Registration() {
    return (loaded.Registration ??= (
      require('./registration.js') as typeof import('./registration.js')
    ).Registration);
  },
  get renderHeat() {
    return (loaded.renderHeat ??= (require('./heat.js') as typeof import('./heat.js')).renderHeat);
  },
  get Snapshot() {
    return (loaded.Snapshot ??= (require('./snapshot.js') as typeof import('./snapshot.js')).Snapshot);
  },
  get SnapshotFile() {
    return (loaded.SnapshotFile ??= (
      require('./snapshot-file.js') as typeof import('./snapshot-file.js')
    ).SnapshotFile);
  },
  get SnapshotHistory() {
    return (loaded.SnapshotHistory ??= (
      require('./snapshot-history.js') as typeof import('./snapshot-history.js')
    ).SnapshotHistory);
  },
  get UffdError() {
    return (loaded.UffdError ??= (require('./errors.js') as typeof import('./errors.js')).UffdError);
  },
  get Userfaultfd() {
    return (loaded.Userfaultfd ??= (
      require('./userfaultfd.js') as typeof import('./userfaultfd.js')
    ).Userfaultfd);
  },
};

// In words that Node.js finds without running them: ES modules import the values by name (test 00).

Object.defineProperty(exports, 'capabilities', {
  enumerable: true,
  get: function () {
    return lazily.capabilities;
  },
});
Object.defineProperty(exports, 'ChildUserfaultfd', {
  enumerable: true,
  get: function () {
    return lazily.ChildUserfaultfd;
  },
});
Object.defineProperty(exports, 'DirtyPages', {
  enumerable: true,
  get: function () {
    return lazily.DirtyPages;
  },
});
Object.defineProperty(exports, 'DirtyTracker', {
  enumerable: true,
  get: function () {
    return lazily.DirtyTracker;
  },
});
Object.defineProperty(exports, 'LazyRestore', {
  enumerable: true,
  get: function () {
    return lazily.LazyRestore;
  },
});
Object.defineProperty(exports, 'PageFault', {
  enumerable: true,
  get: function () {
    return lazily.PageFault;
  },
});
Object.defineProperty(exports, 'Region', {
  enumerable: true,
  get: function () {
    return lazily.Region;
  },
});
Object.defineProperty(exports, 'Registration', {
  enumerable: true,
  get: function () {
    return lazily.Registration;
  },
});
Object.defineProperty(exports, 'renderHeat', {
  enumerable: true,
  get: function () {
    return lazily.renderHeat;
  },
});
Object.defineProperty(exports, 'Snapshot', {
  enumerable: true,
  get: function () {
    return lazily.Snapshot;
  },
});
Object.defineProperty(exports, 'SnapshotFile', {
  enumerable: true,
  get: function () {
    return lazily.SnapshotFile;
  },
});
Object.defineProperty(exports, 'SnapshotHistory', {
  enumerable: true,
  get: function () {
    return lazily.SnapshotHistory;
  },
});
Object.defineProperty(exports, 'UffdError', {
  enumerable: true,
  get: function () {
    return lazily.UffdError;
  },
});
Object.defineProperty(exports, 'Userfaultfd', {
  enumerable: true,
  get: function () {
    return lazily.Userfaultfd;
  },
});

export {};
