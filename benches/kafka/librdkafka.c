/* What librdkafka does, for benches/kafka: produces or consumes, and prints seconds and CPU-seconds.
 *
 *   librdkafka produce BOOTSTRAP TOPIC COUNT BYTES KEYS CODEC
 *   librdkafka consume BOOTSTRAP TOPIC COUNT
 *
 * acks=all; else its defaults, but for a queue that is large enough and the partitioner of the Java client. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static long failed;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void delivered(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque) {
  if (message->err) failed++;
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
  char error[512];
  if (rd_kafka_conf_set(conf, key, value, error, sizeof error) != RD_KAFKA_CONF_OK) {
    fprintf(stderr, "%s\n", error);
    exit(1);
  }
}

static rd_kafka_t *start(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
  char error[512];
  rd_kafka_t *kafka = rd_kafka_new(type, conf, error, sizeof error);
  if (!kafka) {
    fprintf(stderr, "%s\n", error);
    exit(1);
  }
  return kafka;
}

static void produce(char **args) {
  long count = atol(args[2]), bytes = atol(args[3]), keys = atol(args[4]);
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", args[0]);
  set(conf, "acks", "all");
  set(conf, "compression.codec", args[5]);
  set(conf, "partitioner", "murmur2_random");
  set(conf, "queue.buffering.max.messages", "1000000");
  set(conf, "queue.buffering.max.kbytes", "1048576");
  rd_kafka_conf_set_dr_msg_cb(conf, delivered);
  rd_kafka_t *kafka = start(RD_KAFKA_PRODUCER, conf);
  rd_kafka_topic_t *topic = rd_kafka_topic_new(kafka, args[1], NULL);
  const char *pattern = "{\"v\":1,\"agent\":\"edge-01\",\"seq\":";
  char *value = malloc(bytes + 32), key[64];
  for (long at = 0; at < bytes; at++) value[at] = pattern[at % strlen(pattern)];
  for (long n = 0; n < count; n++) {
    int length = snprintf(key, sizeof key, "edge-01/%ld", n % keys);
    snprintf(value + bytes - 20, 32, "%020ld", n);
    while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, bytes, key, length, NULL) == -1)
      rd_kafka_poll(kafka, 10);
    if (n % 1000 == 0) rd_kafka_poll(kafka, 0);
  }
  rd_kafka_flush(kafka, 60000);
  if (failed || rd_kafka_outq_len(kafka)) {
    fprintf(stderr, "%ld not delivered\n", failed + rd_kafka_outq_len(kafka));
    exit(1);
  }
}

static void consume(char **args) {
  long count = atol(args[2]);
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", args[0]);
  set(conf, "group.id", "bench-librdkafka");
  set(conf, "enable.auto.commit", "false");
  set(conf, "auto.offset.reset", "earliest");
  rd_kafka_t *kafka = start(RD_KAFKA_CONSUMER, conf);
  rd_kafka_poll_set_consumer(kafka);
  const struct rd_kafka_metadata *metadata;
  rd_kafka_topic_t *topic = rd_kafka_topic_new(kafka, args[1], NULL);
  if (rd_kafka_metadata(kafka, 0, topic, &metadata, 10000)) exit(1);
  rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(8);
  for (int p = 0; p < metadata->topics[0].partition_cnt; p++)
    rd_kafka_topic_partition_list_add(all, args[1], p)->offset = RD_KAFKA_OFFSET_BEGINNING;
  rd_kafka_assign(kafka, all);
  rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(kafka);
  static rd_kafka_message_t *messages[2000];
  long got = 0;
  while (got < count) {
    ssize_t read = rd_kafka_consume_batch_queue(queue, 1000, messages, 2000);
    for (ssize_t n = 0; n < read; n++) {
      if (!messages[n]->err) got++;
      rd_kafka_message_destroy(messages[n]);
    }
  }
}

int main(int argc, char **argv) {
  double begun = now();
  if (argc == 8 && !strcmp(argv[1], "produce")) produce(argv + 2);
  else if (argc == 5 && !strcmp(argv[1], "consume")) consume(argv + 2);
  else return 2;
  printf("%.6f %.6f\n", now() - begun, cpu());
  return 0;
}
