// Put before the system's library: a process whose wall clock is some seconds late.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec* now) {
  const int result = (int)syscall(SYS_clock_gettime, clock, now);
  const char* late = getenv("KOIOS_TEST_LATE_S");
  if (clock == CLOCK_REALTIME && late != NULL) now->tv_sec -= atoi(late);
  return result;
}
