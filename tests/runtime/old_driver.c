/* A stand-in for libcuda.so.1 of a driver that is older than this build: what a user sees of it can
 * then be tested where there is no GPU. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

enum { kSuccess = 0, kNotFound = 500 };

int cuInit(unsigned flags) {
  (void)flags;
  return kSuccess;
}

int cuDriverGetVersion(int* version) {
  *version = 12040;
  return kSuccess;
}

/* The run-time library asks for itself under the name without a version. */
int cuGetProcAddress_v2(const char* symbol, void** function, int version,
                        unsigned long long flags, int* status) {
  (void)version;
  (void)flags;
  *function = strcmp(symbol, "cuGetProcAddress") == 0 ? (void*)cuGetProcAddress_v2
                                                      : dlsym(RTLD_DEFAULT, symbol);
  if (status != NULL) *status = *function == NULL;
  return *function == NULL ? kNotFound : kSuccess;
}
