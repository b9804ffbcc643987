import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A consumer of Kafka, which knows nothing of traces.
 *
 * <p>Arguments: the bootstrap servers, a topic, and a group. It runs until it is killed.
 */
public final class RecordConsumer {
    private static final Duration LONGEST_POLL = Duration.ofSeconds(1);

    private RecordConsumer() {}

    public static void main(String[] arguments) {
        Map<String, Object> configuration = Map.of(
            ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0],
            ConsumerConfig.GROUP_ID_CONFIG, arguments[2],
            ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        StringDeserializer text = new StringDeserializer();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(configuration, text, text)) {
            consumer.subscribe(List.of(arguments[1]));
            while (true) {
                for (ConsumerRecord<String, String> record : consumer.poll(LONGEST_POLL)) {
                    handle(record);
                }
            }
        }
    }

    /** Processing is what happens between a record and the next. */
    private static void handle(ConsumerRecord<String, String> record) {}
}
