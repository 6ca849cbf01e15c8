/*
 * The baseline for bench/life-cycle.ts: one volume life cycle with plain system calls and mkfs, without a driver.
 *   bare-cycle DIRECTORY ext4|block THREADS CYCLES [MKFS ARGUMENT...]
 * In each cycle, a thread creates a sparse 1 GiB file and attaches a loop device with direct I/O to it. For ext4, it runs mkfs
 * before, then mounts the device and bind-mounts the filesystem; for block, it bind-mounts the device node. It writes 4 KiB, calls
 * fsync, and undoes everything. Prints the total time in seconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *directory;
static int is_block, cycles;
static char **mkfs_arguments;
static int mkfs_count;

static void fail(const char *what) { fprintf(stderr, "%s: %s\n", what, strerror(errno)); exit(1); }
#define CHECK(call) do { if ((call) < 0) fail(#call); } while (0)

static void make_filesystem(char *image) {
  char *argv[64] = {"mkfs.ext4"};
  int n = 1;
  for (int i = 0; i < mkfs_count && n < 62; i++) argv[n++] = mkfs_arguments[i];
  argv[n++] = image;
  argv[n] = NULL;
  char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
  pid_t child;
  if (posix_spawnp(&child, "mkfs.ext4", NULL, NULL, argv, environment) != 0) fail("mkfs.ext4");
  int status;
  if (waitpid(child, &status, 0) < 0 || status != 0) { fprintf(stderr, "mkfs.ext4 failed\n"); exit(1); }
}

static int attach(const char *image, char *node) {
  int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file = open(image, O_RDWR | O_CLOEXEC);
  if (control < 0 || file < 0) fail("open");
  for (;;) {
    int number = ioctl(control, LOOP_CTL_GET_FREE);
    CHECK(number);
    sprintf(node, "/dev/loop%d", number);
    int device = open(node, O_RDWR | O_CLOEXEC);
    if (device < 0) { if (errno == ENXIO || errno == ENOENT || errno == EBUSY) continue; fail(node); }
    struct loop_config config = {.fd = file, .block_size = 4096};
    config.info.lo_flags = LO_FLAGS_DIRECT_IO;
    if (ioctl(device, LOOP_CONFIGURE, &config) == 0) { close(file); close(control); return device; }
    close(device);
    if (errno != EBUSY) fail("LOOP_CONFIGURE");
  }
}

static void unmount(const char *target) {
  /* A spawned child holds copies of the open files until it calls exec, so umount fails with EBUSY for a few milliseconds. */
  while (umount2(target, 0) < 0) { if (errno != EBUSY) fail(target); usleep(1000); }
}

static void cycle(int thread) {
  char image[256], staging[256], target[256], file[300], node[32];
  snprintf(image, sizeof image, "%s/image-%d", directory, thread);
  snprintf(staging, sizeof staging, "%s/staging-%d", directory, thread);
  snprintf(target, sizeof target, "%s/target-%d", directory, thread);
  int fd = open(image, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  CHECK(fd);
  CHECK(ftruncate(fd, 1L << 30));
  close(fd);
  if (!is_block) make_filesystem(image);
  int device = attach(image, node);
  if (is_block) {
    close(open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    CHECK(mount(node, target, NULL, MS_BIND, NULL));
    snprintf(file, sizeof file, "%s", target);
  } else {
    CHECK(mkdir(staging, 0700));
    CHECK(mkdir(target, 0700));
    CHECK(mount(node, staging, "ext4", 0, NULL));
    CHECK(mount(staging, target, NULL, MS_BIND, NULL));
    snprintf(file, sizeof file, "%s/file", target);
  }
  static const char page[4096];
  int out = open(file, is_block ? O_WRONLY | O_CLOEXEC : O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  CHECK(out);
  CHECK(write(out, page, sizeof page));
  CHECK(fsync(out));
  close(out);
  unmount(target);
  if (is_block) {
    CHECK(unlink(target));
  } else {
    unmount(staging);
    CHECK(rmdir(target));
    CHECK(rmdir(staging));
  }
  CHECK(ioctl(device, LOOP_CLR_FD, 0));
  close(device);
  CHECK(unlink(image));
}

static void *run(void *number) {
  for (int i = 0; i < cycles; i++) cycle((int)(long)number);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc < 5) { fprintf(stderr, "usage: bare-cycle DIRECTORY ext4|block THREADS CYCLES [MKFS ARGUMENT...]\n"); return 2; }
  directory = argv[1];
  is_block = strcmp(argv[2], "block") == 0;
  int threads = atoi(argv[3]);
  cycles = atoi(argv[4]);
  mkfs_arguments = argv + 5;
  mkfs_count = argc - 5;
  pthread_t *all = calloc(threads, sizeof *all);
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  for (long i = 0; i < threads; i++) if (pthread_create(&all[i], NULL, run, (void *)i) != 0) fail("pthread_create");
  for (int i = 0; i < threads; i++) pthread_join(all[i], NULL);
  clock_gettime(CLOCK_MONOTONIC, &to);
  printf("%.6f\n", (to.tv_sec - from.tv_sec) + (to.tv_nsec - from.tv_nsec) / 1e9);
  return 0;
}
