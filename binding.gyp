{
  "variables": { "uffd_test%": 0 },
  "target_defaults": {
    "sources": [
      "native/addon.cc",
      "native/convert.cc",
      "native/dirty_tracker_wrap.cc",
      "native/event_channel.cc",
      "native/lazy_load_wrap.cc",
      "native/memory_wrap.cc",
      "native/snapshot_file_wrap.cc",
      "native/snapshot_history_wrap.cc",
      "native/snapshot_wrap.cc",
      "native/testing_wrap.cc",
      "native/userfaultfd_wrap.cc",
      "native/core/aliased_tracker.cc",
      "native/core/capture.cc",
      "native/core/capture_tracker.cc",
      "native/core/compare.cc",
      "native/core/compare_tracker.cc",
      "native/core/consistent_copy.cc",
      "native/core/copy_on_write.cc",
      "native/core/dirty_consumer.cc",
      "native/core/dirty_engine.cc",
      "native/core/domain_tracker.cc",
      "native/core/fault.cc",
      "native/core/fault_loop.cc",
      "native/core/fault_queue.cc",
      "native/core/fault_resolver.cc",
      "native/core/fault_server.cc",
      "native/core/forked_children.cc",
      "native/core/given_back.cc",
      "native/core/holder_list.cc",
      "native/core/lazy_load.cc",
      "native/core/lazy_memory.cc",
      "native/core/mapping.cc",
      "native/core/mapping_table.cc",
      "native/core/memory_file.cc",
      "native/core/memory_map.cc",
      "native/core/native_thread.cc",
      "native/core/nonzero_pages.cc",
      "native/core/open_faults.cc",
      "native/core/page_allocator.cc",
      "native/core/page_source.cc",
      "native/core/page_states.cc",
      "native/core/page_table.cc",
      "native/core/pagemap.cc",
      "native/core/populated_pages.cc",
      "native/core/probe.cc",
      "native/core/range.cc",
      "native/core/registration_table.cc",
      "native/core/registry.cc",
      "native/core/session.cc",
      "native/core/sha256.cc",
      "native/core/sigbus_resolver.cc",
      "native/core/slot_store.cc",
      "native/core/snapshot.cc",
      "native/core/snapshot_capture.cc",
      "native/core/snapshot_copy.cc",
      "native/core/snapshot_history.cc",
      "native/core/snapshot_pages.cc",
      "native/core/test_barrier.cc",
      "native/core/test_counters.cc",
      "native/core/test_io.cc",
      "native/core/test_kernel.cc",
      "native/core/test_seccomp.cc",
      "native/core/tracking_domain.cc",
      "native/core/userfaultfd.cc",
      "native/core/wake_log.cc",
      "native/core/wp_async.cc",
      "native/core/wp_sync.cc",
      "native/core/written_pages.cc"
    ],
    "include_dirs": ["native", "<!(node -p \"require('node-addon-api').include_dir\")"],
    "defines": ["NAPI_VERSION=9", "NAPI_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
    "cflags": ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fvisibility=hidden"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
    "cflags_cc": ["-std=gnu++20", "-fexceptions"]
  },
  "targets": [{ "target_name": "userfaultfd" }],
  "conditions": [
    [
      "uffd_test==1",
      {
        "targets": [
          {
            "target_name": "userfaultfd_test",
            "defines": ["UFFD_TEST_BARRIERS"],
            "ldflags": [
              "-Wl,--wrap=ioctl,--wrap=mmap,--wrap=munmap,--wrap=madvise,--wrap=poll",
              "-Wl,--wrap=mmap64,--wrap=pread64",
              "-Wl,--wrap=read,--wrap=write,--wrap=pread,--wrap=_Znwm"
            ]
          }
        ]
      }
    ]
  ]
}
