/* A V4L2 camera that isn't there: preloaded into the program under test, it answers for the node that FAKE_NODE names, as a driver would.
 *
 * The node is a plain file: where it exists, the camera is plugged in. What the camera does wrong stands in the file NODE.fault, which is read
 * at every call, so that a test can change it at any time: one word, for frames with "/N" for every N-th.
 *
 *   denied, busy, streamon   open, S_FMT, STREAMON fail
 *   eio, hang, slow          DQBUF fails; never returns; every call takes 100 ms
 *   freeze                   no frame comes
 *   error/N, short/N         flagged as damaged; with half of its bytes
 *   gap/N                    dropped by the driver
 *   metadata, bayer, mplane  what kind of node it is
 *
 * FAKE_PICTURE names a file with the bytes of a frame (YUYV or JPEG, as its name ends), FAKE_COUNTS one for what was counted.
 *
 * It is stricter than the kernel: whoever breaks the rules of buffers ends with exit code 77 and a message. While a buffer is queued its memory
 * cannot be touched (SIGSEGV). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 4, SLOT = 1 << 20, VIOLATION = 77 };
enum owner { USER, KERNEL, DONE };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int camera = -1; /* its descriptor, while it is open */
static char *kernel_side; /* the buffers as the driver sees them */
static struct v4l2_pix_format format;
static unsigned numerator = 1, denominator = 5;
static struct {
    enum owner owner;
    void *mapped;
    struct v4l2_buffer filled;
} buffers[BUFFERS];
static unsigned count, order[BUFFERS], queued; /* queued buffers, oldest first */
static unsigned finished[BUFFERS], done; /* filled buffers, oldest first */
static int streaming;
static double begun;
static unsigned long produced, opens, frames, lost;

static void violation(const char *what)
{
    fprintf(stderr, "FAKE CAMERA VIOLATION: %s\n", what);
    _exit(VIOLATION);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static int plugged(void)
{
    const char *node = getenv("FAKE_NODE");
    return node && syscall(SYS_faccessat, AT_FDCWD, node, F_OK) == 0;
}

/* The fault's N, 0 if it is another or none. */
static unsigned fault(const char *name)
{
    char path[4096], text[64];
    snprintf(path, sizeof path, "%s.fault", getenv("FAKE_NODE"));
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    text[length > 0 ? length : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    size_t word = strcspn(text, "/");
    if (word != strlen(name) || strncmp(text, name, word) != 0)
        return 0;
    return text[word] ? atoi(text + word + 1) : 1;
}

static int fails(int code)
{
    errno = code;
    return -1;
}

__attribute__((destructor)) static void tell_counts(void)
{
    const char *path = getenv("FAKE_COUNTS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fprintf(file, "opens %lu\nframes %lu\nlost %lu\nopen %d\n", opens, frames, lost, camera >= 0);
    fclose(file);
}

/* Writes a frame into a buffer. */
static size_t draw(char *to)
{
    static char picture[SLOT];
    static size_t length;
    const char *path = getenv("FAKE_PICTURE");
    if (path && !length) {
        FILE *file = fopen(path, "rb");
        length = file ? fread(picture, 1, sizeof picture, file) : 0;
        if (file)
            fclose(file);
    }
    if (length) {
        memcpy(to, picture, length);
        return length;
    }
    for (unsigned i = 0; i < format.sizeimage; i++)
        to[i] = i % 2 ? 128 : (char)(i + produced);
    return format.sizeimage;
}

/* Makes the frames that are due. */
static void produce(void)
{
    double period = (double)numerator / denominator;
    unsigned long due = streaming ? (unsigned long)((seconds() - begun) / period) : 0;
    while (produced < due) {
        unsigned long number = produced++;
        unsigned gap = fault("gap");
        if (fault("freeze") || (gap && number % gap == 0))
            continue;
        if (!queued) {
            lost++;
            continue;
        }
        unsigned index = order[0];
        memmove(order, order + 1, --queued * sizeof *order);
        struct v4l2_buffer *filled = &buffers[index].filled;
        size_t length = draw(kernel_side + index * SLOT);
        double stamp = begun + number * period;
        memset(filled, 0, sizeof *filled);
        filled->index = index;
        filled->sequence = number;
        filled->timestamp.tv_sec = (long)stamp;
        filled->timestamp.tv_usec = (long)((stamp - (long)stamp) * 1e6);
        filled->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        unsigned every = fault("error");
        if (every && number % every == 0)
            filled->flags |= V4L2_BUF_FLAG_ERROR;
        every = fault("short");
        filled->bytesused = every && number % every == 0 ? length / 2 : length;
        buffers[index].owner = DONE;
        finished[done++] = index;
    }
}

static void check_buffer(const struct v4l2_buffer *buffer)
{
    if (buffer->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || buffer->memory != V4L2_MEMORY_MMAP)
        violation("a buffer of the wrong kind");
}

static int queue(struct v4l2_buffer *buffer)
{
    check_buffer(buffer);
    if (buffer->index >= count)
        violation("QBUF of a buffer that does not exist");
    if (buffers[buffer->index].owner != USER)
        violation("QBUF of a buffer that the driver owns");
    if (!buffers[buffer->index].mapped)
        violation("QBUF of a buffer that is not mapped");
    buffers[buffer->index].owner = KERNEL;
    mprotect(buffers[buffer->index].mapped, SLOT, PROT_NONE);
    order[queued++] = buffer->index;
    return 0;
}

static int dequeue(struct v4l2_buffer *buffer)
{
    check_buffer(buffer);
    if (!streaming)
        violation("DQBUF without a stream");
    if (fault("eio"))
        return fails(EIO);
    produce();
    if (!done)
        return fails(EAGAIN);
    unsigned index = finished[0];
    memmove(finished, finished + 1, --done * sizeof *finished);
    buffers[index].owner = USER;
    mprotect(buffers[index].mapped, SLOT, PROT_READ | PROT_WRITE);
    *buffer = buffers[index].filled;
    buffer->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    buffer->memory = V4L2_MEMORY_MMAP;
    frames++;
    return 0;
}

static int request(struct v4l2_requestbuffers *wanted)
{
    for (unsigned i = 0; i < BUFFERS; i++)
        if (buffers[i].mapped)
            violation("REQBUFS while buffers are mapped");
    if (streaming)
        violation("REQBUFS while streaming");
    count = wanted->count < BUFFERS ? wanted->count : BUFFERS;
    queued = done = 0;
    for (unsigned i = 0; i < BUFFERS; i++)
        buffers[i].owner = USER;
    wanted->count = count;
    return 0;
}

static int set_format(struct v4l2_format *wanted)
{
    if (count)
        violation("S_FMT while there are buffers");
    if (fault("busy"))
        return fails(EBUSY);
    struct v4l2_pix_format *pix = &wanted->fmt.pix;
    int packed = pix->pixelformat == V4L2_PIX_FMT_YUYV;
    pix->bytesperline = packed ? 2 * pix->width : 0;
    pix->sizeimage = 2 * pix->width * pix->height;
    pix->colorspace = V4L2_COLORSPACE_SRGB;
    pix->ycbcr_enc = pix->quantization = 0;
    pix->field = V4L2_FIELD_NONE;
    format = *pix;
    return 0;
}

static int stop(void)
{
    streaming = 0;
    queued = done = 0;
    for (unsigned i = 0; i < count; i++) {
        buffers[i].owner = USER;
        if (buffers[i].mapped)
            mprotect(buffers[i].mapped, SLOT, PROT_READ | PROT_WRITE);
    }
    return 0;
}

static int start(void)
{
    if (fault("streamon"))
        return fails(EPROTO);
    if (!queued)
        violation("STREAMON without a queued buffer");
    streaming = 1;
    produced = 0;
    begun = seconds();
    return 0;
}

static int capability(struct v4l2_capability *found)
{
    memset(found, 0, sizeof *found);
    strcpy((char *)found->driver, "fake");
    strcpy((char *)found->card, "Fake Camera");
    unsigned kind = fault("metadata") ? V4L2_CAP_META_CAPTURE
        : fault("mplane") ? V4L2_CAP_VIDEO_CAPTURE_MPLANE : V4L2_CAP_VIDEO_CAPTURE;
    found->device_caps = kind | V4L2_CAP_STREAMING;
    found->capabilities = found->device_caps | V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_DEVICE_CAPS;
    return 0;
}

static int list_format(struct v4l2_fmtdesc *found)
{
    static const unsigned usual[] = { V4L2_PIX_FMT_MJPEG, V4L2_PIX_FMT_YUYV }, raw[] = { V4L2_PIX_FMT_SRGGB10, V4L2_PIX_FMT_SBGGR8 };
    if (found->index >= 2)
        return fails(EINVAL);
    found->pixelformat = (fault("bayer") ? raw : usual)[found->index];
    strcpy((char *)found->description, "pixels");
    return 0;
}

static int list_size(struct v4l2_frmsizeenum *found)
{
    static const unsigned sizes[][2] = { { 1280, 720 }, { 640, 480 }, { 320, 240 } };
    if (found->index >= (found->pixel_format == V4L2_PIX_FMT_YUYV ? 3u : 2u))
        return fails(EINVAL);
    found->type = V4L2_FRMSIZE_TYPE_DISCRETE;
    found->discrete.width = sizes[found->index][0];
    found->discrete.height = sizes[found->index][1];
    return 0;
}

static int list_interval(struct v4l2_frmivalenum *found)
{
    static const unsigned rates[] = { 30, 15, 5 };
    int slow = found->pixel_format == V4L2_PIX_FMT_YUYV && found->width == 1280;
    if (found->index >= 3 || (slow && found->index))
        return fails(EINVAL);
    found->type = V4L2_FRMIVAL_TYPE_DISCRETE;
    found->discrete.numerator = 1;
    found->discrete.denominator = slow ? 10 : rates[found->index];
    return 0;
}

static int set_rate(struct v4l2_streamparm *wanted)
{
    wanted->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
    numerator = wanted->parm.capture.timeperframe.numerator;
    denominator = wanted->parm.capture.timeperframe.denominator;
    return 0;
}

static int query(struct v4l2_buffer *buffer)
{
    check_buffer(buffer);
    if (buffer->index >= count)
        violation("QUERYBUF of a buffer that does not exist");
    buffer->length = SLOT;
    buffer->m.offset = buffer->index * SLOT;
    return 0;
}

static int answer(unsigned long call, void *argument)
{
    switch ((unsigned)call) {
    case VIDIOC_QUERYCAP: return capability(argument);
    case VIDIOC_ENUM_FMT: return list_format(argument);
    case VIDIOC_ENUM_FRAMESIZES: return list_size(argument);
    case VIDIOC_ENUM_FRAMEINTERVALS: return list_interval(argument);
    case VIDIOC_S_FMT: return set_format(argument);
    case VIDIOC_S_PARM: return set_rate(argument);
    case VIDIOC_REQBUFS: return request(argument);
    case VIDIOC_QUERYBUF: return query(argument);
    case VIDIOC_QBUF: return queue(argument);
    case VIDIOC_DQBUF: return dequeue(argument);
    case VIDIOC_STREAMON: return start();
    case VIDIOC_STREAMOFF: return stop();
    default: return fails(ENOTTY);
    }
}

int ioctl(int fd, unsigned long call, ...)
{
    va_list arguments;
    va_start(arguments, call);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    pthread_mutex_lock(&lock);
    int ours = fd == camera && fd >= 0;
    pthread_mutex_unlock(&lock);
    if (!ours)
        return syscall(SYS_ioctl, fd, call, argument);
    while ((unsigned)call == VIDIOC_DQBUF && fault("hang"))
        usleep(100000);
    if (fault("slow"))
        usleep(100000);
    pthread_mutex_lock(&lock);
    int result, code;
    if (plugged()) {
        result = answer(call, argument);
        code = errno;
    } else {
        /* Gone, but what the program holds must still be given back. */
        if ((unsigned)call == VIDIOC_STREAMOFF)
            stop();
        if ((unsigned)call == VIDIOC_REQBUFS && ((struct v4l2_requestbuffers *)argument)->count == 0)
            request(argument);
        result = -1;
        code = ENODEV;
    }
    pthread_mutex_unlock(&lock);
    if (result < 0)
        errno = code;
    return result;
}

int poll(struct pollfd *list, nfds_t number, int timeout)
{
    struct pollfd *volatile entries = list; /* glibc declares that poll reads nothing */
    int ours = number == 1 && camera >= 0 && entries->fd == camera;
    if (!ours) {
        struct timespec time = { timeout / 1000, timeout % 1000 * 1000000L };
        return syscall(SYS_ppoll, entries, number, timeout < 0 ? NULL : &time, NULL, 0);
    }
    double end = seconds() + timeout / 1000.0;
    for (;;) {
        pthread_mutex_lock(&lock);
        int there = plugged() && streaming;
        if (there)
            produce();
        entries->revents = !there ? POLLERR | POLLHUP : done ? POLLIN | POLLRDNORM : 0;
        pthread_mutex_unlock(&lock);
        if (entries->revents)
            return 1;
        if (timeout >= 0 && seconds() >= end)
            return 0;
        usleep(1000);
    }
}

static int open_camera(int flags)
{
    if (fault("denied"))
        return fails(EACCES);
    if (!(flags & O_NONBLOCK) || !(flags & O_CLOEXEC))
        violation("opened without O_NONBLOCK or O_CLOEXEC");
    if (camera >= 0)
        violation("opened while it is open");
    camera = memfd_create("camera", MFD_CLOEXEC);
    if (camera < 0 || ftruncate(camera, BUFFERS * SLOT) < 0)
        violation("no memory for the test");
    kernel_side = (char *)syscall(SYS_mmap, NULL, BUFFERS * SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, camera, 0);
    count = queued = done = 0;
    opens++;
    return camera;
}

static int open_any(const char *path, int flags, int mode)
{
    const char *node = getenv("FAKE_NODE");
    if (node && path && strcmp(path, node) == 0 && plugged())
        return open_camera(flags);
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, int) : 0;
    va_end(arguments);
    return open_any(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, int) : 0;
    va_end(arguments);
    return open_any(path, flags, mode);
}

int fstat(int fd, struct stat *found)
{
    int result = syscall(SYS_newfstatat, fd, "", found, AT_EMPTY_PATH);
    if (result == 0 && fd >= 0 && fd == camera)
        found->st_mode = (found->st_mode & ~S_IFMT) | S_IFCHR;
    return result;
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    void *mapped = (void *)syscall(SYS_mmap, at, length, protection, flags, fd, offset);
    if (fd >= 0 && fd == camera && mapped != MAP_FAILED) {
        unsigned index = offset / SLOT;
        if (index >= count || offset % SLOT || length != SLOT)
            violation("mmap of what is no buffer");
        if (buffers[index].mapped)
            violation("a buffer is mapped twice");
        buffers[index].mapped = mapped;
    }
    return mapped;
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    return mmap(at, length, protection, flags, fd, offset);
}

int munmap(void *at, size_t length)
{
    for (unsigned i = 0; i < BUFFERS; i++)
        if (buffers[i].mapped == at && at) {
            if (streaming && plugged())
                violation("munmap while streaming");
            buffers[i].mapped = NULL;
        }
    return syscall(SYS_munmap, at, length);
}

int close(int fd)
{
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd == camera) {
        for (unsigned i = 0; i < BUFFERS; i++)
            if (buffers[i].mapped)
                violation("closed with a mapped buffer");
        if (streaming)
            violation("closed while streaming");
        if (count)
            violation("closed without REQBUFS 0");
        syscall(SYS_munmap, kernel_side, BUFFERS * SLOT);
        camera = -1;
    }
    pthread_mutex_unlock(&lock);
    return syscall(SYS_close, fd);
}
