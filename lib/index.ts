export { capabilities } from './capabilities.js';
export type { Capabilities, EngineCapability, MemoryCapability, Problem } from './capabilities.js';
export { ChildUserfaultfd } from './child-userfaultfd.js';
export { DirtyPages } from './dirty-pages.js';
export type { DirtyRange } from './dirty-pages.js';
export type { FirstWrite } from './first-writes.js';
export { DirtyTracker } from './dirty-tracker.js';
export type { DirtyTrackerOptions } from './dirty-tracker.js';
export type { DirtyEngine } from './dirty-engine.js';
export type { WatchOptions } from './dirty-watch.js';
export { UffdError } from './errors.js';
export type { AccessName, Attempt } from './errors.js';
export type { ForkEvent, RemapEvent, RemoveEvent, UffdEvent, UnmapEvent } from './events.js';
export type { Feature } from './features.js';
export { PageFault } from './page-fault.js';
export type { FaultAction, FaultEndedBy, ResolveOptions } from './page-fault.js';
export { renderHeat } from './heat.js';
export type { HeatOptions } from './heat.js';
export { LazyRestore } from './lazy-restore.js';
export type { LazyRestoreOptions, LoadProgress, PageTouch } from './lazy-restore.js';
export { Region } from './region.js';
export type { AllocateFileOptions, AllocateMemoryOptions } from './allocation.js';
export type { AllocateOptions, Backing, MemorySource, RegionKind, Trackable, WasmMemory } from './region.js';
export type { RegionHandle } from './region-handle.js';
export { Snapshot } from './snapshot.js';
export type { CaptureProgress, RestoreStats, SnapshotMode } from './snapshot.js';
export type { SnapshotOptions, SnapshotResolver } from './snapshot.js';
export type { SaveProgress, SaveStats } from './snapshot-encoder.js';
export type { SaveOptions, StreamOptions } from './snapshot-save.js';
export { SnapshotFile } from './snapshot-file.js';
export type {
  FileRestoreOptions,
  FileWorkOptions,
  OpenSnapshotOptions,
  ReceiveOptions,
  VerifyStats,
} from './snapshot-file.js';
export type { SnapshotFileInfo, SnapshotInfo } from './snapshot-info.js';
export type { FileRestoreStats } from './snapshot-restore.js';
export { SnapshotHistory } from './snapshot-history.js';
export type { HistoryEntry, SnapshotHistoryOptions } from './snapshot-history.js';
export { Registration } from './registration.js';
export type { FileSource, PageSource, RegionSource, RegisterMode, RegisterOptions } from './registration.js';
export type { OpenOptions } from './opening.js';
export { Userfaultfd } from './userfaultfd.js';
export type { EventsOptions } from './userfaultfd.js';
export type { CopyOptions, MoveOptions, WakeOption } from './range-calls.js';
export type { ByteRange } from './validate.js';
