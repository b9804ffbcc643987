import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A producer of Kafka, which knows nothing of traces.
 *
 * <p>Arguments: the bootstrap servers, a topic, and how many records. Their values are the numbers from 0.
 */
public final class RecordProducer {
    private RecordProducer() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> configuration = Map.of(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        StringSerializer text = new StringSerializer();
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(configuration, text, text)) {
            for (int number = 0; number < Integer.parseInt(arguments[2]); number++) {
                producer.send(new ProducerRecord<>(arguments[1], Integer.toString(number))).get();
            }
        }
    }
}
