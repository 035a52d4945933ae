#include "core/sha256.h"

// Declared here and not included: the headers call them deprecated, in favour of functions that
// allocate. Weak, so that the addon loads where they are not.
// NOLINTBEGIN(readability-identifier-naming): OpenSSL's names
extern "C" {
__attribute__((weak)) int SHA256_Init(void* context);
__attribute__((weak)) int SHA256_Update(void* context, const void* data, size_t length);
__attribute__((weak)) int SHA256_Final(unsigned char* digest, void* context);
}
// NOLINTEND(readability-identifier-naming)

namespace uffd {
namespace {

// SHA256_CTX is 112 bytes in every version.
struct alignas(16) Context {
  uint8_t bytes[256];
};

}  // namespace

bool HasSha256() noexcept {
  return &SHA256_Init != nullptr && &SHA256_Update != nullptr && &SHA256_Final != nullptr;
}

Sha256Digest Sha256Of(const uint8_t* bytes, size_t length) noexcept {
  Context context;
  Sha256Digest digest;
  SHA256_Init(&context);
  SHA256_Update(&context, bytes, length);
  SHA256_Final(digest.data(), &context);
  return digest;
}

}  // namespace uffd
