// The bare ioctl, called by the thread of JavaScript on memory of its own: where the pages lie and
// which processor has them in its caches is the same for the package.
//   scan(view, numbers)      collects what was written
//   handOver(view, numbers)  and writes the ranges down in new memory, as for one who keeps them
// numbers: a Float64Array that gets ns, pages.

#include <stdbool.h>
#include <stddef.h>

#include "tracking.h"

// As much of Node-API as is called. Its binary interface does not change, and who has installed the
// package need not have its headers.
typedef struct napi_env__* napi_env;
typedef struct napi_value__* napi_value;
typedef struct napi_callback_info__* napi_callback_info;
int napi_create_function(napi_env env, const char* name, size_t length,
                         napi_value (*callback)(napi_env, napi_callback_info), void* data,
                         napi_value* result);
int napi_set_named_property(napi_env env, napi_value object, const char* name, napi_value value);
int napi_get_cb_info(napi_env env, napi_callback_info info, size_t* count, napi_value* arguments,
                     napi_value* self, void** data);
int napi_get_typedarray_info(napi_env env, napi_value array, int* type, size_t* length, void** data,
                             napi_value* buffer, size_t* offset);

static int pagemap = -1;
static struct page_region* regions;
static uint64_t base;
static double* ranges;  // offset and length of each
static size_t used;

static void WriteDown(uint64_t start, uint64_t end) {
  ranges[used++] = (double)(start - base);
  ranges[used++] = (double)(end - start);
}

static napi_value Scan(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2;
  const bool* hands_over = NULL;
  napi_get_cb_info(env, info, &count, arguments, NULL, (void**)&hands_over);
  size_t bytes = 0;
  void* memory = NULL;
  double* numbers = NULL;
  napi_get_typedarray_info(env, arguments[0], NULL, &bytes, &memory, NULL, NULL);
  napi_get_typedarray_info(env, arguments[1], NULL, NULL, (void**)&numbers, NULL, NULL);
  base = (uint64_t)memory;
  used = 0;
  // Every page a range of its own.
  const size_t room = bytes / PAGE * 2 * sizeof(double);
  const uint64_t start = NowNs();
  if (*hands_over) {
    ranges = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                  -1, 0);
    Require(ranges != MAP_FAILED, "mmap");
  }
  const uint64_t pages =
      ScanPages(pagemap, regions, kCollect, memory, bytes, *hands_over ? WriteDown : NULL);
  const uint64_t end = NowNs();
  if (*hands_over) munmap(ranges, room);
  numbers[0] = (double)(end - start);
  numbers[1] = (double)pages;
  return NULL;
}

static void Define(napi_env env, napi_value exports, const char* name, bool* hands_over) {
  napi_value function = NULL;
  napi_create_function(env, name, strlen(name), Scan, hands_over, &function);
  napi_set_named_property(env, exports, name, function);
}

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  static bool no = false;
  static bool yes = true;
  pagemap = OpenPagemap();
  regions = MapRegions();
  Define(env, exports, "scan", &no);
  Define(env, exports, "handOver", &yes);
  return exports;
}
