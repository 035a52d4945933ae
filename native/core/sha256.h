// SHA-256 by the OpenSSL that is part of Node. Allocates nothing, takes no lock: may be called from
// a signal handler.
#ifndef UFFD_CORE_SHA256_H_
#define UFFD_CORE_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace uffd {

using Sha256Digest = std::array<uint8_t, 32>;

// False in a Node without OpenSSL.
bool HasSha256() noexcept;
Sha256Digest Sha256Of(const uint8_t* bytes, size_t length) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_SHA256_H_
