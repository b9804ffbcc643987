import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import kafka.Kafka;
import kafka.tools.StorageTool;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.NewTopic;

/**
 * Kafka in one virtual machine with its controller, which says when it is ready and makes topics.
 *
 * <p>Arguments: the address of the broker, then its configuration file. Standard output carries answers alone, one
 * line each: {@code READY} once, then {@code ok} or {@code error WHY} per line of standard input:
 * <pre>
 *   topic NAME PARTITIONS
 * </pre>
 * The end of standard input ends the machine at once.
 */
public final class KafkaLauncher {
    private static final int PATIENCE_MILLISECONDS = 60_000;

    private final Admin admin;

    private KafkaLauncher(String address) throws Exception {
        Properties properties = new Properties();
        properties.put(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, address);
        properties.put(AdminClientConfig.DEFAULT_API_TIMEOUT_MS_CONFIG, PATIENCE_MILLISECONDS);
        properties.put(AdminClientConfig.RECONNECT_BACKOFF_MS_CONFIG, 20);
        properties.put(AdminClientConfig.RECONNECT_BACKOFF_MAX_MS_CONFIG, 100);
        properties.put(AdminClientConfig.RETRY_BACKOFF_MS_CONFIG, 20);
        admin = Admin.create(properties);
        // The client asks again until the broker answers.
        admin.describeCluster().nodes().get(PATIENCE_MILLISECONDS, TimeUnit.MILLISECONDS);
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        // What Kafka itself has to say goes with its errors.
        System.setOut(System.err);
        String[] format = {"format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", arguments[1], "--standalone"};
        if (StorageTool.execute(format, System.err) != 0) {
            System.exit(1);
        }
        // It returns when the broker ends.
        Thread broker = new Thread(() -> Kafka.main(new String[] {arguments[1]}), "kafka");
        broker.setDaemon(true);
        broker.start();
        KafkaLauncher launcher = new KafkaLauncher(arguments[0]);
        answers.println("READY");
        launcher.answer(answers);
        Runtime.getRuntime().halt(0);
    }

    private void answer(PrintStream answers) throws Exception {
        BufferedReader questions =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            try {
                obey(line.trim().split(" +"));
                answers.println("ok");
            } catch (Exception refusal) {
                Throwable why = refusal.getCause() == null ? refusal : refusal.getCause();
                answers.println("error " + why.toString().replaceAll("\\s+", " "));
            }
        }
    }

    private void obey(String[] words) throws Exception {
        if (!words[0].equals("topic") || words.length != 3) {
            throw new IllegalArgumentException("not a command: " + String.join(" ", words));
        }
        NewTopic topic = new NewTopic(words[1], Optional.of(Integer.valueOf(words[2])), Optional.empty());
        admin.createTopics(List.of(topic)).all().get(PATIENCE_MILLISECONDS, TimeUnit.MILLISECONDS);
    }
}
