/* Shows a process a wall clock that is as many seconds ahead as the file STEP_FILE says or, after `=`, one that stands still
   at so many nanoseconds. Loaded by LD_PRELOAD. It allocates nothing, because allocators ask for the time while they start. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
  long failed = syscall(SYS_clock_gettime, clock, time);
  const char *path = clock == CLOCK_REALTIME ? getenv("STEP_FILE") : NULL;
  int file = failed || !path ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (file >= 0) {
    char text[32] = {0};
    if (read(file, text, sizeof text - 1) > 0 && text[0] == '=') {
      long long at = strtoll(text + 1, NULL, 10);
      time->tv_sec = at / 1000000000, time->tv_nsec = at % 1000000000;
    } else {
      time->tv_sec += strtol(text, NULL, 10);
    }
    close(file);
  }
  return (int)failed;
}
