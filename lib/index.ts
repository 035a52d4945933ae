export { capabilities } from './capabilities.js';
export type { Capabilities, EngineCapability, Problem } from './capabilities.js';
export { DirtyPages } from './dirty-pages.js';
export type { DirtyRange } from './dirty-pages.js';
export { DirtyTracker } from './dirty-tracker.js';
export type { DirtyEngine, DirtyTrackerOptions, WatchOptions } from './dirty-tracker.js';
export { UffdError } from './errors.js';
export type { AccessName, Attempt } from './errors.js';
export type { ForkEvent, PageFault, RemapEvent, RemoveEvent, UffdEvent, UnmapEvent } from './events.js';
export type { Feature } from './features.js';
export { Region } from './region.js';
export type { AllocateOptions, MemorySource, RegionKind, Trackable, WasmMemory } from './region.js';
export { Snapshot } from './snapshot.js';
export type { RestoreStats, SnapshotOptions } from './snapshot.js';
export { Registration, Userfaultfd } from './userfaultfd.js';
export type {
  CopyOptions,
  EventsOptions,
  OpenOptions,
  RegisterMode,
  RegisterOptions,
  WakeOption,
} from './userfaultfd.js';
export type { ByteRange } from './validate.js';
