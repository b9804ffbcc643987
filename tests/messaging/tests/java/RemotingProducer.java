import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;

/**
 * A producer over RocketMQ's remoting protocol, which knows nothing of traces.
 *
 * <p>Arguments: the name server's address, a topic, how many messages, and {@code batch} where they are to be one. Their
 * bodies are the numbers from 0.
 */
public final class RemotingProducer {
    private RemotingProducer() {}

    public static void main(String[] arguments) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("java-producers");
        producer.setNamesrvAddr(arguments[0]);
        producer.setSendMsgTimeout(60_000);
        producer.start();
        List<Message> messages = new ArrayList<>();
        for (int number = 0; number < Integer.parseInt(arguments[2]); number++) {
            byte[] body = Integer.toString(number).getBytes(StandardCharsets.UTF_8);
            messages.add(new Message(arguments[1], body));
        }
        if (arguments.length > 3 && arguments[3].equals("batch")) {
            producer.send(messages);
        } else {
            for (Message message : messages) {
                producer.send(message);
            }
        }
        producer.shutdown();
        // Threads of the client would keep the machine running.
        System.exit(0);
    }
}
