/* Closed-loop load generator: each connection repeats its request as soon as the response is complete.
 *
 * Every response is checked: status 200, a JSON body with choices, or a stream with the expected events, a finish_reason and
 * one [DONE]. Anything else is an error, and so is a broken connection.
 * Usage: load PORT CONNECTIONS SECONDS TIMES EVENTS KEY < body
 *   TIMES   requests per connection (0: until SECONDS have passed; responses in flight are awaited)
 *   EVENTS  events of a stream (0: the response is JSON); one fewer is accepted, because the usage event may be hidden
 * Prints one JSON object. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 8192, KEPT = 24 };
typedef enum { HEAD, FIXED, SIZE, DATA, DATA_END, TRAILER } State;

typedef struct {
    int fd, length, events, finished, done, right, times, line;
    long left;
    State state;
    double sent, first;
    char head[4096], last[KEPT + 1]; /* last bytes of the body, to find words that span two reads */
} Connection;

static Connection *connections;
static char request[1 << 16], read_buffer[1 << 17];
static int request_length, port, wanted_times, wanted_events, poll_fd, active;
static long completed, errors, total_events;
static double stop_at, *first_bytes;
static long first_count, first_room;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int connect_to(Connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) { close(c->fd); return 0; }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
    return 1;
}

/* Send the next request, or close the connection if enough were sent. */
static void next(Connection *c) {
    if (wanted_times ? c->times >= wanted_times : now() >= stop_at) {
        close(c->fd);
        active--;
        return;
    }
    c->times++;
    c->length = c->events = c->finished = c->done = c->right = c->line = 0;
    c->left = 0;
    c->state = HEAD;
    c->first = 0;
    memset(c->last, ' ', KEPT);
    c->sent = now();
    if (send(c->fd, request, request_length, MSG_NOSIGNAL) != request_length) {
        errors++;
        close(c->fd);
        active--;
    }
}

static void fail(Connection *c, const char *why) {
    if (errors++ < 3) fprintf(stderr, "load: %s after %d events: %.300s\n", why, c->events, c->head);
    close(c->fd);
    if (connect_to(c)) next(c);
    else active--;
}

/* Words of a right response, of its end and, in a stream, of its last event, for each API. */
static const char *chat_words[] = {"\"choices\"", "\"finish_reason\":\"stop\"", "data: [DONE]"};
static const char *responses_words[] = {"\"output\"", "\"status\":\"completed\"", "event: response.completed"};
static const char *messages_words[] = {"\"content\"", "\"stop_reason\":\"end_turn\"", "event: message_stop"};
static const char *cohere_words[] = {"\"message\"", "\"finish_reason\":\"COMPLETE\"", "data: [DONE]"};
static const char *embeddings_words[] = {"\"embedding\"", "\"total_tokens\"", ""};
static const char *rerank_words[] = {"\"results\"", "\"relevance_score\"", ""};
static const char *tokenize_words[] = {"\"count\"", "\"max_model_len\"", ""};
static const char **words = chat_words;

/* Process a piece of the body: count events and find the words that make a response complete. */
static void look(Connection *c, const char *data, long length) {
    for (const char *at = data; wanted_events && (at = memchr(at, '\n', data + length - at)); at++)
        if (at > data ? at[-1] == '\n' : c->last[KEPT - 1] == '\n') c->events++;
    char seam[2 * KEPT + 1];
    int part = length < KEPT ? length : KEPT;
    memcpy(seam, c->last, KEPT);
    memcpy(seam + KEPT, data, part);
    const char *places[] = {seam, data};
    const long sizes[] = {KEPT + part, length};
    for (int i = 0; i < 2; i++) {
        if (memmem(places[i], sizes[i], words[0], strlen(words[0]))) c->right = 1;
        if (memmem(places[i], sizes[i], words[1], strlen(words[1]))) c->finished = 1;
        if (memmem(places[i], sizes[i], words[2], strlen(words[2]))) c->done = 1;
    }
    if (length >= KEPT) memcpy(c->last, data + length - KEPT, KEPT);
    else memcpy(c->last, seam + part, KEPT);
}

static void complete(Connection *c) {
    int events_right = !wanted_events || c->events == wanted_events || c->events == wanted_events - 1;
    if (!c->right || !c->finished || !events_right || (wanted_events && !c->done)) {
        fail(c, "a wrong answer");
        return;
    }
    completed++;
    total_events += c->events;
    if (first_count < first_room) first_bytes[first_count++] = c->first - c->sent;
    next(c);
}

/* Read a complete head. Returns the start of the body in data, -1 if more is needed, -2 if it is wrong. */
static long take_head(Connection *c, const char *data, long length) {
    int before = c->length;
    long room = (long)sizeof c->head - 1 - before, part = length < room ? length : room;
    memcpy(c->head + before, data, part);
    c->length += part;
    c->head[c->length] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return part == length ? -1 : -2;
    if (strncmp(c->head, "HTTP/1.1 200", 12)) return -2;
    char *size = strcasestr(c->head, "\r\ncontent-length:");
    if (size && size < end) c->state = FIXED, c->left = atol(size + 17);
    else if (strcasestr(c->head, "chunked")) c->state = SIZE;
    else return -2;
    if (!c->first) c->first = now();
    return end + 4 - c->head - before;
}

/* Decode body bytes. Returns 1 if the response is complete, 0 if more is needed, -1 if the framing is wrong. */
static int take_body(Connection *c, const char *data, long length) {
    while (length > 0 || (c->state == FIXED && !c->left)) {
        if (c->state == FIXED || c->state == DATA) {
            long part = c->left < length ? c->left : length;
            look(c, data, part);
            c->left -= part, data += part, length -= part;
            if (!c->left && c->state == FIXED) return length ? -1 : 1;
            if (!c->left) c->state = DATA_END;
            continue;
        }
        char byte = *data++;
        length--;
        if (c->state == SIZE && byte == '\n') c->line = 0, c->state = c->left ? DATA : TRAILER;
        else if (c->state == SIZE && byte != '\r') {
            int digit = byte >= '0' && byte <= '9' ? byte - '0' : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10 : -1;
            if (digit < 0) return -1;
            c->left = c->left * 16 + digit;
        } else if (c->state == DATA_END && byte == '\n') c->state = SIZE;
        else if (c->state == TRAILER && byte == '\n') {
            if (!c->line) return length ? -1 : 1;
            c->line = 0;
        } else if (c->state == TRAILER && byte != '\r') c->line++;
    }
    return 0;
}

static void receive(Connection *c) {
    ssize_t got = recv(c->fd, read_buffer, sizeof read_buffer, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) { fail(c, "a broken connection"); return; }
    long from = 0;
    if (c->state == HEAD) {
        from = take_head(c, read_buffer, got);
        if (from == -1) return;
        if (from == -2) { fail(c, "a refusal"); return; }
    }
    int state = take_body(c, read_buffer + from, got - from);
    if (state < 0) fail(c, "wrong framing");
    else if (state) complete(c);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    if (argc != 8) { fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS TIMES EVENTS KEY PATH < body\n"); return 2; }
    static const struct { const char *path, **words; } of_paths[] = {
        {"/responses", responses_words}, {"/messages", messages_words}, {"/v2/chat", cohere_words}, {"/embeddings", embeddings_words},
        {"/rerank", rerank_words}, {"/tokenize", tokenize_words},
    };
    for (unsigned i = 0; i < sizeof of_paths / sizeof *of_paths; i++)
        if (strstr(argv[7], of_paths[i].path)) words = of_paths[i].words;
    static char body[1 << 15];
    int body_length = fread(body, 1, sizeof body, stdin), count = atoi(argv[2]);
    if (count > MAX_CONNECTIONS) return 2;
    port = atoi(argv[1]), wanted_times = atoi(argv[4]), wanted_events = atoi(argv[5]);
    request_length = snprintf(request, sizeof request, "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
        "authorization: Bearer %s\r\nuser-agent: load\r\naccept: */*\r\ncontent-length: %d\r\n\r\n%.*s", argv[7], port, argv[6], body_length, body_length, body);
    connections = calloc(count, sizeof *connections);
    first_bytes = malloc((first_room = 1 << 20) * sizeof *first_bytes);
    poll_fd = epoll_create1(0);
    double began = now();
    stop_at = began + atof(argv[3]);
    double deadline = stop_at + 30;
    for (int i = 0; i < count; i++) {
        if (!connect_to(&connections[i])) { errors++; continue; }
        active++;
        next(&connections[i]);
    }
    struct epoll_event ready[512];
    while (active > 0 && now() < deadline) {
        int found = epoll_wait(poll_fd, ready, 512, 1000);
        for (int i = 0; i < found; i++) receive(ready[i].data.ptr);
    }
    errors += active;
    double seconds = now() - began;
    qsort(first_bytes, first_count, sizeof *first_bytes, by_value);
    printf("{\"completed\": %ld, \"errors\": %ld, \"events\": %ld, \"seconds\": %.6f, \"first_p50_ms\": %.3f, \"first_p99_ms\": %.3f}\n", completed, errors,
        total_events, seconds, first_count ? first_bytes[first_count / 2] * 1e3 : 0, first_count ? first_bytes[first_count * 99 / 100] * 1e3 : 0);
    return errors != 0;
}
